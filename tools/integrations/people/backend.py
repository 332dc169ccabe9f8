"""The people backend: works out options from a trials file, and hands back the answer that the gateway got."""

from typing import Any

from tools.core.contract import PREFERENCE, Backend, CallContext
from tools.core.errors import FixableError, NeedsPersonError, NoDataError
from tools.integrations.people.spec import BALANCED, Choice, ChooseArgs, WeighArgs, Weighed
from tools.integrations.people.tradeoff import COSTS, Candidate, options, scale_of
from tools.modeling.trials import Trial, Trials, read_trials


class PeopleBackend(Backend):
    """Asks nobody: the answer comes with the call, from the gateway."""

    def health(self, ctx: CallContext) -> str:
        """What waits for a person is in the state folder."""
        waiting = len(list((ctx.home / "approvals").glob("*.json"))) - len(
            list((ctx.home / "approvals").glob("*.answer"))
        )
        return f"{max(waiting, 0)} questions without an answer in {ctx.show(ctx.home / 'approvals')}"

    def choose(self, args: ChooseArgs, ctx: CallContext) -> Choice:
        """The answer, with what the option says of itself."""
        if ctx.answer is None:
            raise NeedsPersonError("a choice is a person's: call this through the gateway, which asks one")
        answer = ctx.answer
        option = next((option for option in args.offered if option.name == answer.chosen), None)
        if option is None:
            valid = ", ".join(option.name for option in args.offered)
            raise FixableError(f"{answer.chosen!r} is not one of the options: {valid}")
        why = f": {answer.note}" if answer.note else ""
        return Choice(
            topic=args.topic,
            chosen=option.name,
            title=option.title,
            consequences=option.consequences,
            decided_by=answer.decided_by,
            by_preference=answer.decided_by == PREFERENCE,
            note=answer.note,
            at=answer.at,
            message=f"{option.title}. Chosen by {answer.decided_by}{why}.",
        )

    def weigh_options(self, args: WeighArgs, ctx: CallContext) -> Weighed:
        """Two to four options that differ, or one that is as good as any in everything."""
        from tools.integrations.people.plot import front_svg
        from tools.integrations.people.words import option_of

        path = ctx.path(args.trials_path)
        trials = read_trials(path)
        costs = [objective for objective in args.objectives if objective != "quality"]
        if not costs:
            raise FixableError("with quality alone there is nothing to weigh; name latency, size or fairness too")
        candidates, dropped = _candidates(trials, costs, args.min_metric)
        if not candidates:
            raise NoDataError(
                f"no trial has a value and {', '.join(COSTS[c] for c in costs)}{f': {dropped[0]}' if dropped else ''}",
                tried=ctx.show(path),
            )
        sign = 1.0 if trials.direction == "maximize" else -1.0
        picks = options(candidates, args.objectives, sign, balanced=BALANCED, preference=args.preference)
        scale, best = scale_of(candidates, sign), picks[0].candidate
        top = max(candidates, key=lambda candidate: sign * candidate.value).value
        made = [option_of(pick, best, top, trials.metric, args.objectives, scale) for pick in picks]
        plot = ctx.workspace / f"tradeoff-{trials.study}-{'-'.join(costs)}.svg"
        plot.write_text(
            front_svg(candidates, [p.candidate for p in picks], [o.title for o in made], trials.metric, costs),
            encoding="utf-8",
        )
        configs = {trial.number: trial.config for trial in trials.trials}
        against = " against ".join([trials.metric, *costs])
        question = "" if len(made) == 1 else f"Which model shall the challenger be? None is best in all: {against}."
        found = (
            f"one option, {made[0].title}: no other is really better in anything"
            if len(made) == 1
            else f"{len(made)} options: {'; '.join(option.title for option in made)}"
        )
        return Weighed(
            question=question,
            options=made,
            configs={option.name: configs[pick.candidate.number] for option, pick in zip(made, picks, strict=True)},
            trials={option.name: pick.candidate.number for option, pick in zip(made, picks, strict=True)},
            metric=trials.metric,
            direction=trials.direction,
            objectives=args.objectives,
            candidates=len(candidates),
            dropped=dropped,
            plot_path=ctx.show(plot),
            message=f"{against}: {len(candidates)} trials come down to {found}.",
        )


def _candidates(trials: Trials, costs: list[str], min_metric: float | None) -> tuple[list[Candidate], list[str]]:
    """The trials that may be chosen, and why others may not.

    Where no trial keeps to the goal's bounds, all of them are candidates: the search has said so, and the challenger
    will be refused for it.
    """
    facts = [trial.model_dump() for trial in trials.trials]
    measured = [_candidate(trial, fact, costs) for trial, fact in zip(trials.trials, facts, strict=True)]
    known = [candidate for candidate in measured if candidate is not None]
    dropped: list[str] = []
    lacking = sum(trial.value is not None for trial in trials.trials) - len(known)
    if lacking:
        dropped.append(f"{lacking} trials lack {' or '.join(COSTS[cost] for cost in costs)}")
    broken = {fact["number"] for fact in facts if any(share > 0 for share in (fact.get("violations") or {}).values())}
    poor = set[int]()
    if min_metric is not None:
        high = trials.direction == "maximize"
        poor = {c.number for c in known if (c.value < min_metric if high else c.value > min_metric)}
    kept = [candidate for candidate in known if candidate.number not in broken | poor]
    if known and not kept:
        return known, [*dropped, "no trial keeps to the goal's constraints"]
    for numbers, why in ((broken, "break the goal's constraints"), (poor, f"miss the goal's {min_metric}")):
        count = sum(candidate.number in numbers for candidate in known)
        if count:
            dropped.append(f"{count} trials {why}")
    return kept, dropped


def _candidate(trial: Trial, fact: dict[str, Any], costs: list[str]) -> Candidate | None:
    """A trial with all that is to be weighed; None where something was not measured."""
    found = {objective: fact.get(name) for objective, name in COSTS.items()}
    measured = {objective: float(value) for objective, value in found.items() if value is not None}
    if trial.value is None or not set(costs) <= measured.keys():
        return None
    return Candidate(
        number=trial.number,
        family=str(trial.config.get("family", "own")),
        value=trial.value,
        costs=measured,
        blocks=tuple(fact.get("block_values") or ()),
    )
