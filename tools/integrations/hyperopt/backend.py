"""The Hyperopt backend."""

import contextlib
import logging
import math
import warnings
from typing import TYPE_CHECKING, Any

from tools.core.contract import Backend, CallContext
from tools.modeling.search import SearchResult, TuneArgs

if TYPE_CHECKING:
    from tools.modeling.models import Config, Dimension

# Hyperopt has no constraints. Its estimator reads the losses' order alone: what breaks one comes last, nearest first.
INFEASIBLE = 1e9


class HyperoptBackend(Backend):
    """Tree of Parzen estimators (Bergstra et al. 2011), by Hyperopt's `fmin`."""

    def health(self, ctx: CallContext) -> str:
        """Imports the library."""
        import importlib.metadata

        import hyperopt

        return f"Hyperopt {importlib.metadata.version('hyperopt')}, {hyperopt.tpe.__name__}"

    def tune(self, args: TuneArgs, ctx: CallContext) -> SearchResult:
        """Trial 0 is the given config, so the best is never worse than it on the validation rows."""
        from tools.modeling.constraints import total_violation
        from tools.modeling.space import ChosenValues, sample_tuning, tuning_dimensions
        from tools.modeling.trial_runner import prepare_tuning

        tuning = prepare_tuning(args, [ctx.path(path) for path in args.paths], ctx.progress)
        runner, config = tuning.runner, tuning.config

        import numpy as np
        from hyperopt import STATUS_FAIL, STATUS_OK, fmin, tpe
        from hyperopt.exceptions import AllTrialsFailed

        logging.getLogger("hyperopt").setLevel(logging.ERROR)

        def objective(values: dict[str, float]) -> dict[str, Any]:
            # The start is taken as it was given; the others are rounded and kept inside their ranges.
            chosen = sample_tuning(ChosenValues(values), config, runner.task) if runner.records else config
            trial = runner.run(chosen)
            runner.report()
            if trial.value is None:
                return {"status": STATUS_FAIL}
            if not trial.feasible:
                return {"status": STATUS_OK, "loss": INFEASIBLE + total_violation(trial.violations)}
            return {"status": STATUS_OK, "loss": -runner.metric.sign * trial.value}

        dimensions = tuning_dimensions(config, runner.task)
        # A search in which nothing could be trained is reported by `finish`, with the reason.
        with warnings.catch_warnings(), contextlib.suppress(AllTrialsFailed):
            warnings.simplefilter("ignore")
            fmin(
                objective,
                {_label(config, d): _space(_label(config, d), d) for d in dimensions},
                algo=tpe.suggest,
                max_evals=args.trials,
                rstate=np.random.default_rng(args.seed),
                points_to_evaluate=[{_label(config, d): config["params"][d.name] for d in dimensions}],
                early_stop_fn=lambda trials, *state: (not runner.may_start, list(state)),
                show_progressbar=False,
                verbose=False,
                return_argmin=False,
            )
        return runner.finish(tuning.study, "hyperopt", ctx.workspace, ctx.show)


def _label(config: "Config", dimension: "Dimension") -> str:
    return f"{config['family']}.{dimension.name}"


def _space(label: str, dimension: "Dimension") -> Any:
    """The dimension as Hyperopt sees it. Whole numbers are searched half a step beyond both ends, then rounded."""
    from hyperopt import hp

    margin = 0.5 if dimension.kind == "int" else 0.0
    low, high = dimension.low - margin, dimension.high + margin
    return hp.loguniform(label, math.log(low), math.log(high)) if dimension.log else hp.uniform(label, low, high)
