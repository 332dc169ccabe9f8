"""Building and scoring tabular models: the pure library that the training, search and serving integrations share.

Holds: reading tables (`data`), the column reader at the front of every model (`columns`), metrics and per-row losses
(`metrics`), model families and their configs (`models`), the search spaces (`space`), training and time-ordered
validation (`training`), trial records and budgets (`trials`), arguments that training tools share (`arguments`) and
models as predictors (`predictor`).

Never holds: a call context, a server, a store, or a vendor library at import (`predictor` imports MLflow inside its
functions); nothing from `crew`, `tasks` or an integration.
"""
