"""The `rollout-etl` command: parse, call, show.

Data goes to standard output, messages to standard error. Exit codes are those of `rollout_etl.errors.ExitCode`. Heavy imports wait until
a recipe runs, so that `--help` is fast.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from rollout_etl import __version__
from rollout_etl.cli import doctor, ingesting, insight, merging, querying, recipes, streams, trainers, updating, validation
from rollout_etl.cli.runner import INTERRUPTED, parse_error
from rollout_etl.cli.talk import TALK
from rollout_etl.errors import ExitCode, UsageError, WriteError
from rollout_etl.plain_text import readable_name

app = typer.Typer(
    name="rollout-etl",
    help="Turn NeMo Gym rollouts into training sets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"rollout-etl {__version__}")
        raise typer.Exit()


@app.callback()
def _root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")] = False) -> None:
    del version


recipes.register(app)
merging.register(app)
trainers.register(app)
querying.register(app)
ingesting.register(app)
insight.register(app)
validation.register(app)
doctor.register(app)
updating.register(app)


def _hyphenated(arguments: list[str]) -> list[str]:
    """`--min_gap` as `--min-gap`: the docs' scripts spell options with underscores."""
    result = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        result.append(name.replace("_", "-") + equals + value if name.startswith("--") else argument)
    return result


def _texts(arguments: list[str]) -> list[str]:
    """Raises `UsageError` for an argument that is not UTF-8: manifests and run files, which contain it, could not hold it."""
    for argument in arguments:
        if (shown := readable_name(argument)) != argument:
            raise UsageError(f"{shown} is not UTF-8; give the file another name")
    return arguments


def main(arguments: list[str] | None = None) -> Any:
    """Entry point of the `rollout-etl` command."""
    streams.prepare()
    try:
        with streams.saying():
            code = app(args=_hyphenated(_texts(sys.argv[1:] if arguments is None else arguments)), standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = ExitCode.INTERRUPTED
    except TyperException as error:
        print(f"rollout-etl: {parse_error(error)}", file=sys.stderr)
        code = ExitCode.USAGE
    except typer.Exit as error:
        code = error.exit_code
    except SystemExit as ended:
        # If nobody reads the help to its end, Typer exits with 1.
        code = ExitCode.DONE if isinstance(ended.__context__, BrokenPipeError) else ended.code
    except BrokenPipeError:
        code = ExitCode.DONE
    except (UsageError, WriteError) as error:
        code = error.exit_code
        TALK.error(str(error), code)
    if code == ExitCode.INTERRUPTED:
        TALK.error(INTERRUPTED, ExitCode.INTERRUPTED)
    sys.exit(int(code or 0))


if __name__ == "__main__":
    main()
