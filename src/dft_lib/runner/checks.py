"""Check the study before it starts: ``python -m dft_lib.runner.checks``, the stage ``check``.

What can be wrong in params, in what they name, or on this machine is looked for here, so that a
misspelt setting of the last arm does not stop a study after hours. All that is found is listed,
one sentence each. Most of the time goes into loading PyTorch, which recipes import.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from pydantic import ValidationError

from dft_lib.evaluation import results_table
from dft_lib.evaluation.calibration import Calibration
from dft_lib.image_sets import parquet, real
from dft_lib.interventions.base import Intervention, Setting, open_intervention
from dft_lib.models import pipelines
from dft_lib.models.conditioning import require_distinct, require_readable
from dft_lib.raters.base import HasFeatures
from dft_lib.raters.panel import Panel
from dft_lib.raters.photographs import hub
from dft_lib.repro.files import write_json
from dft_lib.repro.paths import ROOT, enter, resolve, show
from dft_lib.repro.places import require_publishable, require_writable
from dft_lib.runner import space, wiring
from dft_lib.study import lexicon, prompts
from dft_lib.study.lexicon import Lexicon, held_out
from dft_lib.study.params.whole import Params
from dft_lib.study.schema import problems_of, read_values
from dft_lib.study.wall import RATERS
from dft_lib.training.job import settings_of

DRAWS = 4  # of every prompt, to see how long an intervention makes it


class Grids(NamedTuple):
    """The prompts of a study, as notebook 01 would write them."""

    words: Lexicon
    training: pd.DataFrame
    evaluation: pd.DataFrame


class Checks:
    """Everything that is looked at, one method each; `found` holds a sentence per problem."""

    def __init__(self, chosen: Params) -> None:
        self.chosen = chosen
        self.found: list[str] = []
        self.grids: Grids | None = None
        self.tokenizers: list[Any] = []
        self.teacher: list[Any] = []

    def run(self) -> list[str]:
        """Look at everything; return what is wrong."""
        self.machine()
        self.models()
        self.prompts()
        self.folds()
        self.raters()
        self.pictures()
        for name in self.chosen.arms:
            self.recipe(name)
            self.intervention(name)
        self.measured()
        self.places()
        self.disk()
        return list(dict.fromkeys(self.found))

    def say(self, where: str, what: object) -> None:
        """Note a problem."""
        lines = str(what).strip().splitlines() or [type(what).__name__]
        self.found.append(f"{where}: {lines[0]}")

    @contextmanager
    def at(self, where: str, more: type[Exception] = OSError) -> Iterator[None]:
        """Note what a check raises, and go on."""
        try:
            yield
        except (ValueError, OSError, more) as error:
            self.say(where, error)

    def machine(self) -> None:
        """Check the device, Ray where it is asked for, and shards that no batch straddles."""
        base = self.chosen.base
        with self.at("base.device"):
            pipelines.choose_device(base.device, base.dtype)
        if base.engine == "ray" and importlib.util.find_spec("ray") is None:
            self.say("base.engine", "ray is not installed: run `make ray`, or use process")
        for group in ("synthesis", "evaluate"):
            size = getattr(self.chosen, group).shard_size
            if size % base.batch_size:
                more = -(-size // base.batch_size) * base.batch_size
                self.say(
                    f"{group}.shard_size",
                    f"{size} is no multiple of base.batch_size {base.batch_size}, so every shard "
                    f"ends in a smaller batch: use {more}",
                )

    def models(self) -> None:
        """Check the base model and the teacher, and their tokenizers."""
        with self.at("base.model"):
            self.tokenizers = pipelines.tokenizers(self.chosen.base.model)
        with self.at("synthesis.teacher"):
            self.teacher = pipelines.tokenizers(self.chosen.synthesis.teacher)

    def prompts(self) -> None:
        """Check the lexicon and its groups; make the grids; see that the encoder reads them."""
        base, settings = self.chosen.base, self.chosen.prompts
        with self.at("prompts"):
            words = lexicon.load(base.lexicon_folder)
            named = list(words.chosen(base.target))
            self.grids = Grids(
                words, prompts.training_grid(words, settings, named),
                prompts.evaluation_grid(words, settings, named, base.held_out),
            )  # fmt: skip
            both = pd.concat([self.grids.training, self.grids.evaluation])
            if self.tokenizers:
                require_distinct(pd.concat([both["prompt"], both["caption"]]), self.tokenizers)
            if self.teacher:
                require_distinct(self.grids.training["prompt"], self.teacher)

    def folds(self) -> None:
        """Check that every seed has professions to train on and held-out ones."""
        base = self.chosen.base
        if self.grids is None:
            return
        asked = self.grids.evaluation.query("kind == 'neutral'")["fold"].unique()
        trained = self.grids.training.query("kind == 'profession'")["fold"].unique()
        for seed in base.training_seeds:
            wanted = {
                "held out": any(held_out(f, seed, base.held_out) for f in asked),
                "seen": any(not held_out(f, seed, base.held_out) for f in asked),
                "trained on": any(not held_out(f, seed, base.held_out) for f in trained),
            }
            for what in (name for name, there in wanted.items() if not there):
                self.say(
                    "professions.csv",
                    f"no profession is {what} with training seed {seed}: give professions to "
                    "every fold, or change base.held_out or base.training_seeds",
                )

    def raters(self) -> None:
        """Check weights and packages of every rater, and features where distances need them."""
        base, features = self.chosen.base, self.chosen.evaluate.features
        for name in sorted({*base.steer.values(), *base.judge.values(), features}):
            with self.at(f"rater {name}", ImportError):
                module = import_module(f"dft_lib.raters.{RATERS[name].module}")
                if hasattr(module, "MODEL"):  # gigabytes of the hub: looked for, not opened
                    hub.require_fetched(module.MODEL, module.REVISION)
                    continue
                opened = Panel({}, others=[name], groups=base.target)
                if name == features and not isinstance(opened.raters[name], HasFeatures):
                    self.say("evaluate.features", f"rater {name!r} has no features: name another")

    def sets(self) -> dict[str, set[str]]:
        """Return the names of the sets of pictures that stages will make, by their folder."""
        chosen = self.chosen
        made = {chosen.synthesis.out: set[str](), chosen.real.out: set[str]()}
        if self.grids is not None:
            made[chosen.synthesis.out] = set(self.grids.training["set"])
        with suppress(OSError):  # said by `pictures`
            made[chosen.real.out] = set(wiring.sets_of(resolve(chosen.real.source)))
        return made

    def pictures(self) -> None:
        """Check the source of real pictures."""
        with self.at("real.source"):
            source, target = resolve(self.chosen.real.source), self.chosen.base.target
            if wiring.sets_of(source) == real.SETS and set(target) != set(real.DRAWN):
                raise ValueError(
                    f"it is the emoji world, which draws {' and '.join(real.DRAWN)}, but "
                    f"base.target names {', '.join(target)}: name a folder of labelled pictures, "
                    "or photographs"
                )
            if wiring.sets_of(source) == real.OF_PHOTOGRAPHS:
                for path in parquet.files(source):
                    parquet.labels(path, list(target))

    def recipe(self, name: str) -> None:
        """Check the recipe of an arm, its settings, and the set that it trains on."""
        arm = self.chosen.arms[name]
        with self.at(f"arms.{name}.recipe", Exception):  # whatever a module of anybody's raises
            settings = settings_of(arm, self.chosen.finetune)
            there = wiring.sets_at(arm.data, self.sets())
            if settings is None:
                return
            if settings.images not in there:
                raise ValueError(
                    f"trains on the set {settings.images!r}, but {arm.data} has "
                    f"{', '.join(sorted(there)) or 'no pictures'}: mend train.images or data"
                )
            for attribute, shares in (settings.target or {}).items():
                known = self.chosen.base.target.get(attribute, {})
                if list(shares) != list(known):
                    raise ValueError(
                        f"target.{attribute} names {', '.join(shares)}, but base.target has "
                        f"{', '.join(known) or 'no such attribute'}: make them the same"
                    )

    def intervention(self, name: str) -> None:
        """Check the intervention of an arm, its settings, and the length of its prompts."""
        arm = self.chosen.arms[name]
        if self.grids is None:
            return
        with self.at(f"arms.{name}.intervention", Exception):
            setting = Setting.of(self.chosen.base, self.grids.words)
            opened = open_intervention(arm.intervention, arm.draw, setting)
            asked = _asked(opened, self.grids.evaluation)
            for tokenizer in self.tokenizers:
                require_readable(asked, tokenizer)

    def measured(self) -> None:
        """Check the judges' known errors and the measured minutes."""
        settings = self.chosen.measure
        with self.at("measure.calibration"):
            Calibration.read(resolve(settings.calibration), self.chosen.base.judge)
        with self.at("measure.minutes"):
            results_table.read_minutes(resolve(settings.minutes))

    def places(self) -> None:
        """Check that stages find what others write, and may write where they are told to."""
        with self.at("dvc.yaml"):
            for field, what in wiring.differences(self.chosen):
                self.say(field, what)
        for out, stage in wiring.written(self.chosen).items():
            with self.at("outputs"):
                require_publishable(resolve(out), stage)
        for file, stage in {
            self.chosen.synthesis.audit_file: "synthesis",
            f"{self.chosen.measure.results}/table.md": "measure",
        }.items():
            with self.at("outputs"):
                require_writable(resolve(file), stage)

    def disk(self) -> None:
        """Check the room for what will be drawn."""
        if self.grids is not None and not any(f.startswith("base.model") for f in self.found):
            with self.at("disk"):
                grids = self.grids
                space.require(self.chosen, grids.training, grids.evaluation, self.sets())


def _asked(intervention: Intervention, grid: pd.DataFrame) -> list[str]:
    """Return the distinct prompts that an intervention makes of some draws of every prompt."""
    rows = grid[["prompt_id", "prompt"]].itertuples(index=False)
    asked = (
        intervention.plan(prompts.Request(str(r.prompt_id), str(r.prompt), k)).prompt
        for r in rows
        for k in range(DRAWS)
    )
    return list(dict.fromkeys(asked))


def problems(values: dict[str, Any], path: Path) -> list[str]:
    """Return what is wrong with a study, one sentence each.

    Parameters
    ----------
    values : dict
        Content of a complete ``params.yaml``.
    path : pathlib.Path
        Where it was read, for the sentences.
    """
    try:
        chosen = Params.model_validate(values)
    except ValidationError as error:
        return [f"{show(path)}: {text}" for text in problems_of(error, Params)]
    return Checks(chosen).run()


def listed(found: list[str]) -> str:
    """Return problems as a list to be printed."""
    return "the study cannot start:\n- " + "\n- ".join(found)


def main() -> None:
    """Check, and leave a file of constant content, which the first stage depends on."""
    enter()
    path = ROOT / "params.yaml"
    try:
        found = problems(read_values(path), path)
    except (ValueError, OSError) as error:
        found = [str(error)]
    if found:
        sys.exit(listed(found))
    write_json(ROOT / "runs" / "checked.json", {"checked": True})


if __name__ == "__main__":
    main()
