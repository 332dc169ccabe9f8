"""Staging and versions over `dvc.repo.Repo`.

Versions live in a DVC repository as `snapshots/<name>/<version>.dvc`: ordinary DVC metafiles, readable with the `dvc`
command. The version is DVC's own md5 of the directory listing.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.core.contract import Backend, CallContext, NoArgs
from tools.core.errors import (
    FinalError,
    FixableError,
    NeedsPersonError,
    NoDataError,
    RetryableError,
)
from tools.integrations.dvc.spec import (
    DataVersion,
    RestoredVersion,
    RestoreVersionArgs,
    StageDataArgs,
    StagedData,
    VersionDataArgs,
    VersionedData,
    Versions,
    staged_in_words,
)

# pandas' own annotations make every column a union of unrelated types; these names say what is meant.
Frame = Any

SNAPSHOTS = "snapshots"
META_KEY = "mlops_crew"  # our block in the metafile's `meta`, which DVC leaves alone


class DVCBackend(Backend):
    """Uses the repository named by DVC_REPO, or an embedded one without Git and with a local remote."""

    def health(self, ctx: CallContext) -> str:
        with self._repo(ctx) as repo:
            import dvc

            count = len(_metafiles(Path(repo.root_dir)))
            kind = "repository" if self.settings.get("DVC_REPO") else "embedded repository"
            return f"DVC {dvc.__version__}, {kind} {repo.root_dir}, {count} data versions"

    def stage_data(self, args: StageDataArgs, ctx: CallContext) -> StagedData:
        from tools.integrations.dvc.staging import (
            check_clock,
            labelled_apart,
            order_by_time,
            read_targets,
            slices,
            split_source,
        )
        from tools.modeling.columns import unusable
        from tools.modeling.data import check_file, require_columns, write_table
        from tools.modeling.labels import told_positive
        from tools.modeling.reading.compare import compare_files
        from tools.modeling.reading.understand import read_together

        if bool(args.source) == bool(args.reference or args.current) or bool(args.reference) != bool(args.current):
            given = [name for name in ("reference", "current", "source") if getattr(args, name)]
            raise FixableError(f"give either reference and current, or source alone; got {', '.join(given) or 'none'}")
        inputs = [name for name in (args.source, args.reference, args.current) if name]
        paths = [ctx.path(name) for name in inputs]
        for path in paths:
            check_file(path)
        known = dict(zip(inputs, paths, strict=True))
        read = read_together(
            known,
            args.read_settings,
            roles={args.reference or "": "reference", args.current or "": "current"},
            clock=args.time_column or "",
            target=args.target,
            drop=args.drop,
        )
        by_name = dict(zip(known, read, strict=True))
        files = [by_name[shown] for shown in inputs]  # one file may be named twice
        frames: list[Frame] = []
        for shown, file in zip(inputs, files, strict=True):
            if not len(file.frame):
                raise FixableError(f"cannot use {shown}: it has {file.frame.shape[1]} columns and no rows")
            require_columns(file.frame, [args.target], shown)
            frames.append(order_by_time(file.frame, args.time_column, shown) if args.time_column else file.frame)
        if args.time_column and args.needs_clock:
            check_clock(frames, args.time_column)
        findings = [warning for file in read for warning in file.facts.warnings]
        findings += read_targets(frames, ("source",) if args.source else ("reference", "current"), args)
        if not args.source:
            findings += compare_files(frames[0], frames[1], args.time_column)
        if args.source:
            frames = list(split_source(frames[0], args.reference_share))
        unlabelled = None
        if args.allow_unlabelled:
            frames[1], unlabelled = labelled_apart(frames[1], args.target)
        made = slices(frames[0], frames[1], args.baseline_share)
        positive = told_positive(frames[0][args.target], args.positive) if args.task == "binary" else ""
        if unlabelled is not None and len(unlabelled):
            made["unlabelled"] = unlabelled

        folder = ctx.workspace / args.name
        written: dict[str, str] = {}
        for done, (label, frame) in enumerate(made.items()):
            ctx.progress(done, len(made), f"writing {label}")
            path = folder / f"{label}.parquet"
            write_table(frame, path)
            written[label] = ctx.show(path)
        order = f"ordered by {args.time_column}" if args.time_column else "in row order (no time column given)"
        apart = f", {len(made['unlabelled'])} more without a label" if "unlabelled" in made else ""
        left_out = {name: why for file in read for name, why in file.facts.left_out.items()}
        unused = {*args.drop, args.target, args.time_column}
        for label in ("reference_all", "current_all"):
            for name, why in unusable(
                made[label].drop(columns=[n for n in unused if n in made[label].columns])
            ).items():
                left_out.setdefault(name, f"{why} of {label.removesuffix('_all')}: no feature of the built-in models")
        ranges = _time_ranges(made, args.time_column)
        return StagedData(
            **written,
            rows={label: len(frame) for label, frame in made.items()},
            columns=[str(column) for column in frames[1].columns],
            time_range=ranges,
            understood=[file.facts.in_words() for file in read],
            left_out=left_out,
            findings=findings,
            positive=positive,
            input_md5={shown: _md5(path) for shown, path in zip(inputs, paths, strict=True)},
            message=f"Staged {len(frames[0])} reference and {len(frames[1])} current rows{apart}, {order}."
            f"{staged_in_words(ranges, left_out, findings)}{f' {positive}' if positive else ''}",
        )

    def version_data(self, args: VersionDataArgs, ctx: CallContext) -> VersionedData:
        from dvc.exceptions import UploadError

        files = _collect(args.paths, ctx)
        with self._repo(ctx) as repo:
            version, hashes = _content_version(files)
            metafile = Path(repo.root_dir) / SNAPSHOTS / args.name / f"{version}.dvc"
            is_new = not metafile.is_file() or META_KEY not in (_load(metafile).get("meta") or {})
            ctx.progress(0, 2, f"adding {len(files)} files")
            if is_new:
                self._add(repo, metafile, files, args.message or "")
            ctx.progress(1, 2, "pushing")
            remote, missing = _missing_in_remote(repo, version, hashes)
            pushed = 0
            if remote:
                try:
                    pushed = int(repo.push([str(metafile)]))
                except UploadError as error:
                    raise RetryableError(
                        f"version {version} is in the cache, but {error.amount} files could not be pushed to {remote}"
                    ) from error
            sizes = {name: path.stat().st_size for name, path in files.items()}
            pushed_bytes = sum(sizes[name] for name, oid in hashes.items() if oid in missing)
            where = f"pushed to {remote}" if remote else "kept in the cache only: the repository has no default remote"
            return VersionedData(
                version=version,
                name=args.name,
                files=list(files),
                size_bytes=sum(sizes.values()),
                is_new=is_new,
                pushed_files=pushed,
                pushed_bytes=pushed_bytes if remote else 0,
                remote=remote,
                metafile=ctx.show(metafile),
                message=f"{'New version' if is_new else 'Known version'} {version[:12]} of {args.name}, {where}.",
            )

    def list_versions(self, args: NoArgs, ctx: CallContext) -> Versions:
        with self._repo(ctx) as repo:
            root = Path(repo.root_dir)
            versions = [_describe(path) for path in _metafiles(root)]
        if not versions:
            raise NoDataError("no data version has been made yet", tried=str(root / SNAPSHOTS))
        versions.sort(key=lambda item: item.created, reverse=True)
        return Versions(versions=versions, message=f"{len(versions)} data versions.")

    def restore_version(self, args: RestoreVersionArgs, ctx: CallContext) -> RestoredVersion:
        target = ctx.new_path(args.out)
        occupied = target.exists() and (not target.is_dir() or any(target.iterdir()))
        with self._repo(ctx) as repo:
            root = Path(repo.root_dir)
            known = {path.stem: path for path in _metafiles(root)}
            found = [version for version in known if version.startswith(args.version)]
            if len(found) != 1:
                valid = ", ".join(version[:12] for version in known) or "none yet"
                problem = "matches several versions" if found else "is no version"
                raise FixableError(f"version {args.version!r} {problem}; versions: {valid}")
            described = _describe(known[found[0]])
            if occupied and not _holds(target, found[0]):
                raise FixableError(f"out: {args.out} exists and is not an empty folder; name a new one")
            if occupied:  # restored by a call before this one
                return _restored(described, target, args.out, ctx)
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".restore-") as scratch:
                inside = (known[found[0]].with_suffix("").relative_to(root)).as_posix()
                try:
                    # Reads from the cache, and from the remote what the cache lacks.
                    repo.dvcfs.get(f"/{inside}", f"{scratch}/data", recursive=True)
                except FileNotFoundError as error:
                    raise FinalError(
                        f"version {found[0]} is recorded, but its files are gone: {error}",
                        tried="the DVC cache and the DVC remote",
                    ) from error
                os.replace(f"{scratch}/data", target)
        return _restored(described, target, args.out, ctx)

    def _add(self, repo: Any, metafile: Path, files: dict[str, Path], note: str) -> None:
        """Copy the files into the repository's workspace and let DVC take them over."""
        folder = metafile.with_suffix("")
        if folder.exists():  # left by a call that was stopped
            shutil.rmtree(folder)
        for name, path in files.items():
            copy = folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        (stage,) = repo.add(str(folder))
        created = datetime.now(UTC).isoformat(timespec="milliseconds")
        stage.meta = {META_KEY: {"created": created, "note": note, "files": list(files)}}
        stage.dump()

    @contextmanager
    def _repo(self, ctx: CallContext) -> Generator[Any]:
        """The open repository; DVC's lock errors become retryable.

        Raises:
            NeedsPersonError: DVC_REPO names no DVC repository.
        """
        os.environ.setdefault("DVC_NO_ANALYTICS", "1")
        from dvc.exceptions import NotDvcRepoError
        from dvc.lock import LockError
        from dvc.repo import Repo

        for name in ("dvc", "dvc_data", "dvc_objects"):  # DVC logs to stdout, which belongs to the MCP protocol
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        configured = self.settings.get("DVC_REPO")
        own: dict[str, Any] | None = None
        if configured:
            root = ctx.configured(configured)
        else:
            store = ctx.store("dvc").resolve()
            root = _embedded(store)
            # Not written down: DVC's configuration file takes ASCII only, and where a project lies is anybody's choice.
            own = {"core": {"site_cache_dir": str(store / "site")}}
        try:
            repo = Repo(str(root), config=own)
        except NotDvcRepoError as error:
            raise NeedsPersonError(
                f"DVC_REPO={configured} is no DVC repository; run `dvc init` there, or unset DVC_REPO",
                tried=str(root),
            ) from error
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # DVC's own use of deprecated calls
                yield repo
        except LockError as error:
            raise RetryableError("another process holds the DVC repository's lock", tried=str(root)) from error
        finally:
            repo.close()


def _embedded(store: Path) -> Path:
    """The embedded repository, made on first use: what `dvc init --no-scm` and `dvc remote add` write."""
    root, remote = store / "repo", store / "remote"
    if (root / ".dvc" / "config").is_file():
        return root
    from dvc.config import Config
    from dvc.config_schema import RelPath

    remote.mkdir(parents=True, exist_ok=True)
    root.mkdir(parents=True, exist_ok=True)
    # Made aside and renamed, so that an interrupted first call leaves no half repository.
    with tempfile.TemporaryDirectory(dir=store, prefix=".init-") as scratch:
        Path(f"{scratch}/.dvc").mkdir()
        config: Any = Config.init(f"{scratch}/.dvc")
        with config.edit("repo") as edited:
            edited["core"].update({"no_scm": True, "remote": "local", "analytics": False})
            edited["cache"] = {"type": "reflink,hardlink,copy"}  # a version's files are never edited in place
            edited["remote"] = {"local": {"url": RelPath(str(remote))}}  # the same from where it is moved to
        os.replace(f"{scratch}/.dvc", root / ".dvc")
    return root


def _holds(target: Path, version: str) -> bool:
    """Whether a folder holds exactly the files of a version."""
    if not target.is_dir():
        return False
    files = {path.relative_to(target).as_posix(): path for path in sorted(target.rglob("*")) if path.is_file()}
    return _content_version(files)[0] == version.removesuffix(".dir")


def _restored(described: DataVersion, target: Path, out: str, ctx: CallContext) -> RestoredVersion:
    return RestoredVersion(
        version=described.version,
        name=described.name,
        folder=ctx.show(target),
        files=described.files,
        size_bytes=described.size_bytes,
        message=f"Restored version {described.version[:12]} of {described.name} into {out}.",
    )


def _collect(paths: list[str], ctx: CallContext) -> dict[str, Path]:
    """Name inside the version -> file. A folder brings all files below it but hidden ones.

    Raises:
        FixableError: a path is missing or empty, two files would get the same name, or one is none that a call reads.
    """
    files: dict[str, Path] = {}
    for shown in paths:
        path = ctx.path(shown)
        if path.is_file():
            found = {path.name: path}
        elif path.is_dir():
            found = {p.relative_to(path).as_posix(): p for p in ctx.roots.files_below(path)}
        else:
            raise FixableError(f"paths: {shown} is neither a file nor a folder")
        if not found:
            raise FixableError(f"paths: the folder {shown} holds no file")
        clash = sorted(files.keys() & found.keys())
        if clash:
            raise FixableError(f"paths: two files are called {clash[0]!r}; name their common folder instead")
        files.update(found)
    return dict(sorted(files.items()))


def _content_version(files: dict[str, Path]) -> tuple[str, dict[str, str]]:
    """DVC's md5 of a folder holding these files, and the md5 of each file."""
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    hashes = {name: _md5(path) for name, path in files.items()}
    tree = Tree()
    for name, md5 in hashes.items():
        tree.add(tuple(name.split("/")), None, HashInfo("md5", md5))
    return hashlib.md5(tree.as_bytes(), usedforsecurity=False).hexdigest(), hashes


def _missing_in_remote(repo: Any, version: str, hashes: dict[str, str]) -> tuple[str | None, set[str]]:
    """Name of the default remote (None: there is none) and which objects it does not hold yet."""
    from dvc.config import NoRemoteError

    try:
        remote = repo.cloud.get_remote()
    except NoRemoteError:
        return None, set()
    wanted = {f"{version}.dir", *hashes.values()}
    return str(remote.name), {oid for oid in wanted if not remote.odb.exists(oid)}


def _metafiles(root: Path) -> list[Path]:
    """Metafiles of complete versions."""
    found = sorted((root / SNAPSHOTS).glob("*/*.dvc"))
    return [path for path in found if path.is_file() and META_KEY in (_load(path).get("meta") or {})]


def _load(metafile: Path) -> dict[str, Any]:
    import yaml

    return yaml.safe_load(metafile.read_text()) or {}


def _describe(metafile: Path) -> DataVersion:
    content = _load(metafile)
    ours = content["meta"][META_KEY]
    return DataVersion(
        version=metafile.stem,
        name=metafile.parent.name,
        files=ours["files"],
        size_bytes=content["outs"][0]["size"],
        created=ours["created"],
        note=ours["note"],
    )


def _time_ranges(made: dict[str, Frame], column: str | None) -> dict[str, tuple[str, str]] | None:
    if not column:
        return None
    return {label: (str(frame[column].iloc[0]), str(frame[column].iloc[-1])) for label, frame in made.items()}


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
