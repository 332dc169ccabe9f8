"""What a goal states about the answers of its registered model: the section `output`. Light: no table library."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, field_validator, model_validator

Column = StrictInt | StrictStr


class OutputSettings(BaseModel):
    """How the answers are to be read, where they leave a doubt. A column is a name, or a position from 0 in an array.

    `label`: the column of the label. `probability`: the column of one label's probability (`0` where there is but one),
    and `of`: which label that is; by default the one that counts as positive, the last in sorted order.
    `probabilities`: label -> the column of its probability. `labels`: what the model answers -> the label of the data.
    `scale`: what the probabilities are written as. `value`: the column of a regression's number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: Column | None = None
    probability: Column | None = None
    of: str | None = None
    probabilities: dict[str, Column] = Field(default_factory=dict[str, Column])
    labels: dict[str, str] = Field(default_factory=dict[str, str])
    scale: Literal["probability", "percent", "logit"] = "probability"
    value: Column | None = None

    @field_validator("of", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, bool | int | float) else value

    @field_validator("probabilities", mode="before")
    @classmethod
    def _keys_as_text(cls, value: Any) -> Any:
        return {str(key): column for key, column in value.items()} if isinstance(value, dict) else value

    @field_validator("labels", mode="before")
    @classmethod
    def _all_as_text(cls, value: Any) -> Any:
        """YAML reads 0 as a number and an unquoted yes as a truth value."""
        return {str(key): str(label) for key, label in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _one_way(self) -> "OutputSettings":
        if self.probability is not None and self.probabilities:
            raise ValueError("give probability (of one label) or probabilities (of each), not both")
        if self.of is not None and self.probability is None:
            raise ValueError("of says which label probability is of: give probability, the column, as well")
        return self

    def stated(self) -> dict[str, Any]:
        """What was stated, as JSON; empty where nothing was."""
        return self.model_dump(mode="json", exclude_defaults=True)
