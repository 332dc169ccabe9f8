"""Imported once by the process that model processes are forked from, so that each starts with its libraries in memory.

The small prediction pulls in what scikit-learn imports at the first call only (0.2 s otherwise, in a served request).
"""

import mlflow.sklearn as flavor
import pandas as pd

from tools.modeling import models, opened_model, predictor

_FRAME = pd.DataFrame({"number": [0.0, 1.0] * 20, "category": ["a", "b"] * 20})
_CONFIG = models.default_config("binary")
_CONFIG["params"]["iterations"] = 30

predictor.SklearnPredictor(models.build(_CONFIG, "binary", _FRAME).fit(_FRAME, _FRAME["number"])).predict(
    _FRAME.head(1)
)
assert flavor.FLAVOR_NAME in opened_model.NATIVE
