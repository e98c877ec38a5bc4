"""The command line of the course: `mbm-lab`, or `python -m mbm_lab`.

Each command imports its module when it runs, so that `mbm-lab doctor` works when PyTorch
or Jupyter does not.
"""

import argparse
import errno
import os
import sys
import tempfile
from pathlib import Path

from mbm_lab import __version__


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0 well, 1 a fault was found, 2 an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # letters that a console does not have become "?"
            stream.reconfigure(errors="replace")
    try:
        options = _parser().parse_args(arguments)
        _check_here()
        code = options.command(options) or 0
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except (ValueError, OSError) as error:
        print(f"mbm-lab: {_sentence(error)}", file=sys.stderr)
        return 2
    except MemoryError:
        print("mbm-lab: There is too little memory: close other programs.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nmbm-lab: stopped.", file=sys.stderr)
        return 130


def _check_here() -> None:
    """Raises OSError when the folder in which we are has been removed."""
    try:
        os.getcwd()
    except OSError:
        raise OSError(
            "The folder in which you are is not there any more: go to another one with `cd`."
        ) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mbm-lab", description="The command line of MBM Lab.")
    parser.add_argument("--version", action="version", version=f"MBM Lab {__version__}")
    parser.set_defaults(command=lambda options: parser.print_help())
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    for name, command, help in (
        ("lab", _lab, "open the lessons in JupyterLab"),
        ("playground", _playground, "open α and β as a page of its own, for the projector"),
    ):
        page = commands.add_parser(name, help=help)
        page.add_argument("--port", type=int, help="the port to serve on (default: a free one)")
        page.add_argument("--ip", default="127.0.0.1", help="the address to serve on (%(default)s)")
        page.add_argument("--no-browser", action="store_true", help="only print the address")
        page.set_defaults(command=command)
        if name == "lab":
            page.add_argument("folder", nargs="?", help="your own folder, for the lessons' copies")
    page.add_argument("--out", metavar="FILE", help="write the page as one HTML file instead")

    poll = commands.add_parser("poll", help="let a room say, by telephone, which α and β are best")
    poll.add_argument("--port", type=int, help="the port to serve on (default: a free one)")
    poll.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS",
        help="the address to serve on: 0.0.0.0 lets telephones in (default: this computer alone)",
    )  # fmt: skip
    poll.add_argument("--no-browser", action="store_true", help="only print the addresses")
    poll.set_defaults(command=_poll)

    doctor = commands.add_parser("doctor", help="check that everything is as it should be")
    doctor.add_argument(
        "--classroom", action="store_true", help="is this computer ready to teach with?"
    )
    doctor.add_argument("--learners", type=int, metavar="N", help="how many learners come")
    doctor.add_argument("--hub", action="store_true", help="they work on a server on this computer")
    doctor.add_argument("--stick", metavar="FOLDER", help="look at the stick of `make stick`, too")
    doctor.set_defaults(command=_doctor)

    lessons = commands.add_parser("lessons", help="list the lessons and your copies of them")
    one = lessons.add_mutually_exclusive_group()
    one.add_argument(
        "--fresh", nargs="+", metavar="NUMBER", help="a fresh copy of these; your old one is kept"
    )
    one.add_argument(
        "--merge", nargs="+", metavar="NUMBER",
        help="bring what is new in the course's into these copies of yours; your old one is kept",
    )  # fmt: skip
    one.add_argument(
        "--refresh",
        nargs="*",
        metavar="NUMBER",
        help="for authors: run the course's lessons (all, or these) and store their outputs",
    )
    lessons.set_defaults(command=_lessons)

    exercises = commands.add_parser("exercises", help="list the exercises and what you solved")
    one = exercises.add_mutually_exclusive_group()
    one.add_argument("--reset", action="store_true", help="forget what you solved (it asks)")
    one.add_argument(
        "--export", nargs="?", const="", metavar="FILE",
        help="write your progress as a small file without a name, to give to an instructor",
    )  # fmt: skip
    one.add_argument(
        "--record", metavar="FILE.html",
        help="check what you solved anew, and write a page to print",
    )  # fmt: skip
    one.add_argument(
        "--summary", metavar="FOLDER", help="for instructors: sum up a folder of exported files"
    )
    exercises.add_argument("--out", metavar="FILE.png", help="of --summary: a picture of it")
    exercises.set_defaults(command=_exercises)

    bench = commands.add_parser("bench", help="measure how fast the course runs here")
    bench.add_argument(
        "what", nargs="?", choices=("speed", "browser", "quality", "faults", "scale"),
        default="speed",
        help="speed (the default), speed in a browser, the quality of the models, three seeds; "
        "faults: what happens when files, arguments and disks are not as they should be; scale: "
        "what more cards and more processes cost",
    )  # fmt: skip
    bench.set_defaults(command=_bench)

    postcards = commands.add_parser(
        "postcards", help="draw the Postcards data set anew, or more cards than fit into memory"
    )
    one = postcards.add_mutually_exclusive_group(required=True)
    one.add_argument("--out", metavar="DIR", help="the data set, into a new or empty folder")
    one.add_argument(
        "--shards", metavar="DIR",
        help="fresh cards as tar files, for lesson 11; stopped, it goes on when called again",
    )  # fmt: skip
    postcards.add_argument("--cards", type=int, metavar="N", help="of --shards: how many cards")
    postcards.add_argument("--seed", type=int, metavar="S", help="of --shards: other cards")
    postcards.set_defaults(command=_postcards)

    data = commands.add_parser("data", help="real data sets, and a look at your own folder")
    what = data.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = what.add_parser("list", help="list the data sets, their licences, and where they are")
    listing.set_defaults(command=_data_list)
    get = what.add_parser("get", help="fetch a data set (it shows the licence, and asks)")
    get.add_argument("name", metavar="NAME")
    get.add_argument("--agree", action="store_true", help="you know the licence and agree to it")
    get.set_defaults(command=_data_get)
    where = what.add_parser("path", help="print the folder of a data set")
    where.add_argument("name", metavar="NAME")
    where.set_defaults(command=_data_path)
    sample = what.add_parser("sample", help="write the course's sample of digits anew, from all")
    sample.add_argument("folder", metavar="FOLDER")
    sample.set_defaults(command=_data_sample)
    check = what.add_parser("check", help="list everything that is wrong in your own folder")
    check.add_argument("folder", metavar="FOLDER")
    check.set_defaults(command=_data_check)

    train = commands.add_parser(
        "train", help="learn from a table of your own, and write a report",
        description="Learns to predict one column of a table of your own from the others, and "
        "writes a report, the model, and its answers. Stopped, it goes on when called again.",
    )  # fmt: skip
    train.add_argument("folder", metavar="FOLDER", help="of the table, or of folders, one a class")
    train.add_argument("--target", metavar="COLUMN", help="the column to predict")
    for name, what in (("image", "pictures"), ("audio", "sounds"), ("clip", "clips")):
        train.add_argument(f"--{name}", metavar="COLUMN", help=f"a column of {what}' file names")
    train.add_argument("--text", metavar="COLUMN", help="a column of texts")
    train.add_argument(
        "--number", metavar="COLUMN", action="append", default=[], dest="numbers",
        help="a column of numbers (may be given several times)",
    )  # fmt: skip
    train.add_argument(
        "--group", metavar="COLUMN", help="rows with one value here are learned or tested together"
    )
    train.add_argument("--language", metavar="CODE", help="of the texts (found if not given)")
    train.add_argument(
        "--classes", action=argparse.BooleanOptionalAction, default=None,
        help="take the target as classes, or as a number (found if not given)",
    )  # fmt: skip
    train.add_argument(
        "--encoder", metavar="WHAT=NAME", action="append", default=[], dest="encoders",
        help="a pre-trained encoder that is installed, as in image=timm:resnet18",
    )  # fmt: skip
    train.add_argument("--out", metavar="DIR", help="where to (default: FOLDER/mbm_report)")
    train.set_defaults(command=_train)

    predict = commands.add_parser("predict", help="let a trained model answer for new rows")
    predict.add_argument("model", metavar="MODEL", help="the file model.safetensors, or its folder")
    predict.add_argument("rows", metavar="ROWS", help="a table like the first, without the target")
    predict.add_argument("--out", metavar="FILE", help="a new CSV file (default: it is printed)")
    predict.set_defaults(command=_predict)

    weights = commands.add_parser("weights", help="train the small models of data/weights anew")
    weights.add_argument(
        "lessons", nargs="*", metavar="NUMBER", help="only the models of these lessons"
    )
    weights.add_argument("--out", metavar="DIR", help="where to (default: data/weights)")
    weights.set_defaults(command=_weights)
    return parser


def _lab(options: argparse.Namespace) -> int:
    if options.folder is not None:  # before `place` is imported, and for the lessons' kernels
        if not options.folder:
            raise ValueError("The name of your folder is empty: write its name, or leave it out.")
        os.environ["MBM_HOME"] = os.path.abspath(os.path.expanduser(options.folder))
    from mbm_lab import lab

    return lab.start(port=options.port, ip=options.ip, browser=not options.no_browser)


def _playground(options: argparse.Namespace) -> int:
    from mbm_lab import atomic, rows
    from mbm_lab.widgets import projector

    if options.out is None:
        return projector.serve(options.port, options.ip, not options.no_browser)
    if os.path.isdir(rows.named(options.out)):
        raise ValueError(f"{options.out} is a folder: name a file, as in --out page.html.")
    _check_parent(Path(options.out))
    html = projector.page()
    atomic.write_whole(options.out, lambda part: part.write_text(html, encoding="utf-8"))
    print(f"Written: {options.out}")
    return 0


def _check_parent(path: Path) -> None:
    """Raises OSError when nothing can be written at this place: before much is computed."""
    around = next(one for one in path.absolute().parents if os.path.lexists(one))
    if not around.is_dir() or (path.is_symlink() and not path.exists()):
        name, wrong = _in_line(str(path)), _in_line(str(around))
        why = "it is a link that leads nowhere" if around.is_dir() else f"{wrong} is no folder"
        raise OSError(f"{name} cannot be written, because {why}: choose another place.")


def _poll(options: argparse.Namespace) -> int:
    from mbm_lab import poll

    return poll.serve(options.port, options.host, not options.no_browser)


def _doctor(options: argparse.Namespace) -> int:
    from mbm_lab import doctor

    if options.classroom:
        from mbm_lab import classroom

        learners = 1 if options.learners is None else options.learners
        if learners < 1:
            raise ValueError(
                f"--learners is {learners}, and at least one learner comes: give 1 or more."
            )
        return doctor.report(classroom.examine(learners, options.hub, options.stick))
    if options.learners is not None or options.hub or options.stick is not None:
        raise ValueError("--learners, --hub and --stick go with --classroom: add it.")
    return doctor.report()


def _lessons(options: argparse.Namespace) -> None:
    from mbm_lab import copies, lessons, merging

    if options.refresh is not None:
        lessons.refresh(options.refresh)
        return
    for number in [*(options.fresh or []), *(options.merge or [])]:
        lessons.find_lesson(number)  # all of them are looked at before anything is done
    for number in options.fresh or []:
        fresh, kept = copies.fresh_copy(number)
        print(f"A fresh copy: {fresh.name}")
        if kept is not None:
            print(f"Your old one: {kept.name}")
    for number in options.merge or []:
        merged, kept = copies.merge(number)
        if kept is None:
            print(f"There is nothing new for {merged.name}.")
            continue
        print(f"Merged: {merged.name}")
        print(f"Your old one: {kept.name}")
        print(merging.report(lessons.read_notebook(merged)))
    if not options.fresh and not options.merge:
        print(copies.overview())
        print("\n`mbm-lab lessons --fresh 04` gives a fresh copy of lesson 04 and keeps yours.")
        print("`mbm-lab lessons --merge 04` brings what is new into yours.")


def _exercises(options: argparse.Namespace) -> int:
    from mbm_lab import exercises
    from mbm_lab.exercises import progress

    if options.out is not None and options.summary is None:
        raise ValueError("--out names the picture of --summary FOLDER: give both.")
    if options.reset:
        return _forget()
    if options.export is not None:
        return _export(options.export)
    if options.record is not None:
        return _record(options.record)
    if options.summary is not None:
        return _summary(options.summary, options.out)
    states = progress.load()
    print(exercises.overview(states))
    solved = sum(bool(state.get("solved")) for state in states.values())
    print(f"\n{solved} solved. This is kept in {progress.path()}, on this computer only.")
    return 0


def _forget() -> int:
    from mbm_lab.exercises import progress

    if not progress.path().exists():
        print("There is no progress to forget.")
        return 0
    progress.load()  # what is not the course's is not forgotten
    if not _says_yes(f"Forget all progress in {progress.path()}? Type yes: "):
        print("Nothing was changed.")
        return 1
    progress.reset()
    print("Your progress is forgotten. Your notebooks are as they were.")
    return 0


def _export(path: str) -> int:
    from mbm_lab.exercises import sharing

    print(sharing.in_words(sharing.export(path)))
    return 0


def _record(path: str) -> int:
    from mbm_lab.exercises import completion

    wrong = completion.write(path, tell=lambda line: print(line, flush=True))
    print(f"Written: {path}. Open it in a browser and print it. It was sent nowhere.")
    return 1 if wrong else 0


def _summary(folder: str, picture: str | None) -> int:
    from mbm_lab.exercises import sharing

    summed = sharing.summary(folder)
    print(sharing.table(summed))
    if picture is not None:
        alt = sharing.draw(summed, picture)
        print(f"\nWritten: {picture}\nThe picture in words: {alt}")
    return 0


def _bench(options: argparse.Namespace) -> int | None:
    from mbm_lab import bench

    measures = {"speed": bench.main, "browser": bench.browser, "quality": bench.quality}
    return (measures | {"faults": bench.faults, "scale": bench.scale})[options.what]()


def _postcards(options: argparse.Namespace) -> None:
    from mbm_lab import postcards, rows

    if options.shards is not None:
        return _shards(options)
    for name in ("cards", "seed"):
        if (value := getattr(options, name)) is not None:
            raise ValueError(
                f"--{name} is {value}, and goes with --shards DIR: leave it out, or write fresh "
                "cards with --shards."
            )
    _check_parent(rows.named(options.out, "folder"))
    postcards.build(options.out)


def _shards(options: argparse.Namespace) -> None:
    from mbm_lab import rows, shards

    folder = rows.named(options.shards, "folder")
    if options.cards is None:
        raise ValueError(
            f"--shards {_in_line(options.shards)} lacks how many cards: add --cards, such as "
            "--cards 100000."
        )
    _check_parent(folder)
    paths = shards.write(folder, options.cards, seed=options.seed or 0)
    print(f"Written: {options.cards:,} cards in {len(paths):,} shards, in {options.shards}")


def _data_list(options: argparse.Namespace) -> None:
    from mbm_lab import downloads

    print(downloads.overview())


def _data_get(options: argparse.Namespace) -> None:
    from mbm_lab import downloads

    def agree(terms: str) -> bool:
        print(terms)
        return options.agree or _says_yes("Do you agree to this licence? Type yes: ")

    print(f"{options.name} lies in {downloads.get(options.name, agree)}.")
    if options.name == "flickr8k":
        from mbm_lab import albums

        print(albums.count_photographs())


def _data_path(options: argparse.Namespace) -> None:
    from mbm_lab import downloads

    print(downloads.path(options.name))


def _data_sample(options: argparse.Namespace) -> None:
    from mbm_lab import datasets

    datasets.write_digit_sample(options.folder)
    print(f"Written: the sample of digits, in {options.folder}")


def _data_check(options: argparse.Namespace) -> int:
    from mbm_lab import albums

    problems = albums.check_folder(options.folder)
    print(f"Read as {albums.layout(options.folder)}.")
    for problem in problems:
        print(problem)
    unnamed = albums.unnamed(options.folder)
    if unnamed:
        some = ", ".join(unnamed[:3]) + (" …" if len(unnamed) > 3 else "")
        verb = "pictures are" if len(unnamed) != 1 else "picture is"
        print(f"{len(unnamed):,} {verb} named by no line, and left out: {some}.")
    print(f"{len(problems)} problems found in {options.folder}." if len(problems) != 1
          else f"1 problem found in {options.folder}.")  # fmt: skip
    return 1 if problems else 0


def _says_yes(question: str) -> bool:
    """Whether the user types yes; nobody there to answer means no."""
    try:
        return input(question).strip().lower() == "yes"
    except (EOFError, RuntimeError, OSError, ValueError):  # the last: an input that is closed
        return False


def _weights(options: argparse.Namespace) -> None:
    from mbm_lab import stored

    numbers = [number and number.zfill(2) for number in options.lessons] or list(stored.LESSONS)
    for number in numbers:
        stored.check_lesson(number)
    for number in numbers:
        for path in stored.retrain(number, options.out or stored.WEIGHTS):
            print(f"Written: {path}", flush=True)


def _train(options: argparse.Namespace) -> None:
    from mbm_lab import tables, trained

    encoders = trained.named_encoders(options.encoders)
    names = ("image", "text", "audio", "clip", "numbers", "target", "group", "language", "classes")
    table = tables.load_table(options.folder, **{name: getattr(options, name) for name in names})
    for note in table.notes:
        print(note)
    trained.train(table, options.out or table.folder / "mbm_report", encoders)


def _predict(options: argparse.Namespace) -> None:
    from mbm_lab import trained

    trained.predict(options.model, options.rows, options.out, warn=_warn)


def _warn(sentence: str) -> None:
    print(f"mbm-lab: {sentence}", file=sys.stderr)


def _sentence(error: Exception) -> str:
    """What an error says, in one line; the system's own errors say what to do, too."""
    if isinstance(error, OSError) and error.strerror:
        if isinstance(error.filename, (str, bytes)):
            where = _in_line(os.fsdecode(error.filename))
        else:
            where = f"a file, in {tempfile.gettempdir()} or where you are"
        return f"{error.strerror} ({where}): {TODO.get(error.errno, OTHERWISE)}."
    return str(error)


TODO = {
    errno.ENOSPC: "make room there, then try again",
    errno.EFBIG: "make room there, or allow larger files, then try again",
    errno.ENOENT: "check the name",
    errno.EEXIST: "name another place, or move this one away",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "name a folder, not a file",
    errno.ENAMETOOLONG: "choose a shorter name",
} | dict.fromkeys(
    (errno.EACCES, errno.EPERM, errno.EROFS), "allow yourself to use it, or name another"
)  # fmt: skip
OTHERWISE = "look at this place, then try again"
"""What to do about the system's own errors."""


def _in_line(name: str) -> str:
    """A name in one line, and not all of a very long one."""
    from mbm_lab import rows

    return rows.in_full(name) if len(name) <= 200 else rows.shown(name)


if __name__ == "__main__":
    sys.exit(main())
