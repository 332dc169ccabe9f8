"""Columns are read for what they hold."""

import numpy as np
import pandas as pd

from tests.helpers.mixed_rows import ROWS, mixed_rows
from tools.modeling.columns import MISSING, ColumnReader, infer_schema


def test_columns_are_read_for_what_they_hold() -> None:
    frame = mixed_rows()
    frame["day"] = [f"{1 + k % 12}/{1 + k % 28}/11" for k in range(ROWS)]
    frame["code"] = pd.Categorical(frame["plan"])
    schema = infer_schema(frame)
    assert schema["charges"] == "number", "numbers as text with a few blanks are numbers"
    assert schema["seen"] == "time:ISO8601"
    assert schema["day"] == "time:%m/%d/%y"
    assert schema["plan"] == schema["code"] == "category"
    assert schema["active"] == "number"
    assert "nothing" not in schema, "an all-null column cannot be used"
    assert "customer" not in schema, "a text that differs in each row identifies it"
    read = ColumnReader(schema).fit(frame).transform(frame)
    assert np.isnan(read["charges"].iloc[0])
    assert read["charges"].iloc[1] == 1.5
    assert read["plan"].iloc[0] == MISSING
    assert list(read.columns) == list(ColumnReader(schema).get_feature_names_out())
    assert read[["day:year", "day:month", "day:day"]].iloc[2].tolist() == [2011.0, 3.0, 3.0]
    later = ColumnReader(schema).transform(frame.assign(day="2011-03-05", seen=1_767_225_600_000))
    assert later["day:day"].iloc[0] == 5.0, "a time may arrive as ISO text"
    assert later["seen:year"].iloc[0] == 2026.0, "or as an epoch in milliseconds"
