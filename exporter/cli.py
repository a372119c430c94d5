"""The command line: arguments to calls, errors to one clear line and an exit code.

Each command imports what it needs when it is run: ``--version`` and ``--help`` are quick.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, TextIO

from exporter import __version__, logs, shipped, simulator
from exporter.arguments import Parser, one_of, whole_number
from exporter.errors import ConfigError, ExporterError
from exporter.web.listen import parse_address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.app import Options
    from exporter.config.model import Config

ENVIRONMENT: Final = "INTARGET_EXPORTER_"
OK, FAILED, USAGE = 0, 1, 2
_CALM: Final = "calm"
_FASTEST: Final = 1e6
_SIGNALS_EVERY: Final = 0.1  # seconds

_DESCRIPTION = """\
Prometheus exporter for the campaign statistics of InTarget (Email, SMS, Push).

Without a command it polls and serves until SIGTERM or SIGINT. With INTARGET_ACCESS_TOKEN set it needs no
configuration file.
"""
_EPILOG = """\
Every flag of the serving command can be set in the environment, too, and so can every key of the file outside
of accounts: INTARGET_EXPORTER_WEB_LISTEN_ADDRESS=:10095, INTARGET_EXPORTER_POLL_WINDOW=7d. A flag beats the
environment, which beats the file.

Exit codes: 0 for success, 1 for a failure, 2 for a wrong flag or configuration.
"""


class _UsageError(Exception):
    """A flag or variable is wrong; the text says which and what to do."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    parsed = build_parser().parse_args(arguments)
    try:
        code = _run(parsed, os.environ)
        sys.stdout.flush()
    except ConfigError as error:
        _complain(*error.faults)
        code = USAGE
    except _UsageError as error:
        _complain(f"intarget-exporter: {error}")
        code = USAGE
    except ExporterError as error:
        _complain(f"intarget-exporter: {error}")
        code = FAILED
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        code = FAILED
    except OSError as error:  # the output, above all: everything else is dealt with where it happens
        _complain(f"intarget-exporter: {error.strerror or type(error).__name__}; is there room for the output?")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes the rest when it ends
        code = FAILED
    sys.exit(code)


def _run(parsed: argparse.Namespace, environ: Mapping[str, str]) -> int:
    _refuse_unused(parsed)
    _set_up_logs(parsed, environ)
    commands: dict[str | None, Callable[[argparse.Namespace, Mapping[str, str]], int]] = {
        None: _serve,
        "once": _once,
        "check-config": _check_config,
        "doctor": _doctor,
        "backfill": _backfill,
        "simulate": _simulate,
        "print": _print,
    }
    return commands[parsed.command](parsed, environ)


def _refuse_unused(parsed: argparse.Namespace) -> None:
    """Refuse flags that the command wouldn't use: who gives them means something by them."""
    if parsed.command is None:
        if parsed.demo and parsed.config_file:
            raise _UsageError("--demo goes without --config.file: it polls nothing but the simulator")
        if parsed.demo_scenario is not None and not parsed.demo:
            raise _UsageError("--scenario goes with --demo, or after `simulate`")
        return
    unused = {
        "--config.file": parsed.command in ("simulate", "print") and parsed.config_file,
        "--demo": parsed.demo,
        "--scenario": parsed.demo_scenario,
        "--shard": parsed.shard,
        "--total-shards": parsed.total_shards,
        "--web.config.file": parsed.command != "check-config" and parsed.web_config,
        "--web.enable-lifecycle": parsed.lifecycle,
        "--web.listen-address": parsed.listen_address,
        "--web.telemetry-path": parsed.telemetry_path,
    }
    for flag, given in unused.items():
        if given:
            raise _UsageError(f"{flag} has no use with {parsed.command}; leave it out")


def _serve(parsed: argparse.Namespace, environ: Mapping[str, str]) -> int:
    with ExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGINT):
            stack.callback(signal.signal, number, signal.signal(number, _exit_at_once))
        from exporter import app, demo

        options = _options(parsed, environ)
        if parsed.demo:
            demo.run_demo(parsed.demo_scenario or _CALM, options)
        else:
            app.App(_loader(parsed, environ), options).run()
    return OK


def _exit_at_once(*_: object) -> NoReturn:
    """End cleanly before `App.run` handles signals: nothing is polled yet, so nothing has to be saved.

    Python's own handlers won't do: an import can swallow KeyboardInterrupt, and a container's first process
    doesn't get a SIGTERM that nobody handles.
    """
    os._exit(OK)


def _once(parsed: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from exporter import once

    config = _configured(parsed, environ)
    result = once.poll_once(config)
    sys.stdout.write(result.exposition if parsed.output == "text" else result.reconciliation)
    sys.stdout.flush()
    for name in result.failed:
        _complain(f"intarget-exporter: account {name} was not polled successfully; the log above says why")
    return FAILED if result.failed else OK


def _check_config(parsed: argparse.Namespace, environ: Mapping[str, str]) -> int:
    warnings: list[str] = []
    faults: list[str] = []
    for check in (_check_config_file, _check_web_config):
        try:
            warnings += check(parsed, environ)
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    for warning in warnings:
        _complain(f"warning: {warning}")
    sys.stdout.write("OK\n")
    return OK


def _check_config_file(parsed: argparse.Namespace, environ: Mapping[str, str]) -> Sequence[str]:
    config = _loader(parsed, environ)()
    try:
        config.check_tokens(environ)
    except ConfigError as error:  # here, and now: it may be there where the exporter runs
        missing = [f"{fault}; without it the exporter doesn't start" for fault in error.faults]
        return (*config.warnings, *missing)
    return config.warnings


def _check_web_config(parsed: argparse.Namespace, environ: Mapping[str, str]) -> Sequence[str]:
    from exporter.web import tls

    path = _setting(parsed.web_config, "WEB_CONFIG_FILE", environ)
    return tls.check(Path(path)) if path else ()


def _doctor(parsed: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from exporter.doctor.examine import examine
    from exporter.doctor.report import PROBLEM

    config = _only(_loader(parsed, environ)(), parsed.account)
    record = None
    with ExitStack() as stack:
        if parsed.record:
            if len(config.accounts) > 1:
                raise _UsageError("--record is of one account: choose it with --account")
            record = stack.enter_context(_opened_to_write("--record", parsed.record)).write
        report = examine(config, wall=time.time, monotonic=time.monotonic, record=record)
    sys.stdout.write(report.text() if parsed.output == "text" else report.json())
    sys.stdout.flush()
    return FAILED if report.level == PROBLEM else OK


def _opened_to_write(flag: str, path: str) -> TextIO:
    try:
        return Path(path).open("w", encoding="utf-8")
    except OSError as error:
        raise _UsageError(f"{flag}: can't be written to: {error.strerror}") from None


def _backfill(parsed: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from exporter.backfill.arguments import order
    from exporter.backfill.forecast import forecast
    from exporter.backfill.job import run as run_backfill
    from exporter.backfill.progress import Progress

    given = {"--from": parsed.first, "--to": parsed.last, "--output": parsed.output}
    missing = [flag for flag, value in given.items() if not value]
    if missing:
        raise _UsageError(f"backfill needs {', '.join(missing)} as well; see backfill --help")
    labels = {name: value for name, value in (("job", parsed.job), ("instance", parsed.instance)) if value}
    wanted = order(
        parsed.first,
        parsed.last,
        parsed.step,
        Path(parsed.output),
        labels=labels,
        dry_run=parsed.dry_run,
    )
    config = _configured(parsed, environ)
    if wanted.dry_run:
        sys.stdout.writelines(f"{line}\n" for line in forecast(config, wanted, now=time.time()))
        return OK
    stop = threading.Event()
    progress = Progress(sys.stderr, sys.stdout, time.monotonic)
    with ExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGINT):
            stack.callback(signal.signal, number, signal.signal(number, lambda *_: stop.set()))
        # In a thread of its own: a signal handler may not set what its own thread is just waiting for
        pool = stack.enter_context(ThreadPoolExecutor(1))
        work = pool.submit(
            run_backfill,
            config,
            wanted,
            stop=stop,
            wall=time.time,
            monotonic=time.monotonic,
            progress=progress,
        )
        while not work.done():
            wait([work], timeout=_SIGNALS_EVERY)
        faults = work.result()
    for fault in faults:
        _complain(f"intarget-exporter: {fault}")
    return FAILED if faults else OK


def _simulate(parsed: argparse.Namespace, _environ: Mapping[str, str]) -> int:
    try:
        host, port = parse_address(parsed.address)
    except ValueError:
        raise _UsageError("--web.listen-address must be like :8080 or 127.0.0.1:8080") from None
    served: simulator.Simulator | simulator.Replay
    if parsed.replay:
        served, what = _replay(parsed.replay), f"recording {parsed.replay}"
    else:
        what = f"scenario {parsed.scenario}"
        served = simulator.Simulator(
            parsed.seed, time.time, simulator.SCENARIOS[parsed.scenario], parsed.token, speed=parsed.speed
        )
    try:
        server = simulator.serve(served, host or "0.0.0.0", port)  # noqa: S104 - what :PORT means
    except OSError as error:
        raise _UsageError(f"can't listen on {parsed.address}: {error.strerror}") from None
    with server:
        sys.stdout.write(f"{what}: {server.url} (access-token={parsed.token})\n")
        sys.stdout.flush()
        _wait_for_signal()
    return OK


def _print(parsed: argparse.Namespace, _environ: Mapping[str, str]) -> int:
    texts = shipped.files(parsed.what)
    if parsed.output is None:
        text = shipped.one_text(parsed.what)
        if text is None:
            raise _UsageError(f"{parsed.what} are {len(texts)} files; give a folder for them with --output")
        sys.stdout.write(text)
        return OK
    folder = Path(parsed.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
            sys.stdout.write(f"{folder / name}\n")
    except OSError as error:
        raise _UsageError(f"--output: can't be written to: {error.strerror}") from None
    return OK


def _replay(path: str) -> simulator.Replay:
    try:
        return simulator.Replay(Path(path).read_text(encoding="utf-8"), time.time)
    except OSError as error:
        raise _UsageError(f"--replay: can't be read: {error.strerror}") from None
    except ValueError as error:
        raise _UsageError(f"--replay: not a recording of doctor --record: {error}") from None


def _wait_for_signal() -> None:
    """Return once SIGTERM or SIGINT has come."""
    came = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: came.set())
    came.wait()


def _configured(parsed: argparse.Namespace, environ: Mapping[str, str]) -> Config:
    """Return the configuration with the accounts that were asked for, having printed its warnings."""
    config = _loader(parsed, environ)()
    for warning in config.warnings:
        _complain(f"warning: {warning}")
    return _only(config, parsed.account)


def _only(config: Config, names: Sequence[str]) -> Config:
    known = {account.name: account for account in config.accounts}
    for name in names:
        if name not in known:
            raise _UsageError(f"--account: there is no account {name!r}; the file has {', '.join(known)}")
    if not names:
        return config
    return config.model_copy(update={"accounts": tuple(known[name] for name in dict.fromkeys(names))})


# Flags and their variables


def _loader(parsed: argparse.Namespace, environ: Mapping[str, str]) -> Callable[[], Config]:
    from exporter.config.loading import load

    text = _setting(parsed.config_file, "CONFIG_FILE", environ)
    path = Path(text) if text else None
    return lambda: load(path, environ=environ)


def _options(parsed: argparse.Namespace, environ: Mapping[str, str]) -> Options:
    from exporter.app import Options

    default = Options()
    addresses = parsed.listen_address or (environ.get(f"{ENVIRONMENT}WEB_LISTEN_ADDRESS") or "").split(",")
    web_config = _setting(parsed.web_config, "WEB_CONFIG_FILE", environ)
    path = _setting(parsed.telemetry_path, "WEB_TELEMETRY_PATH", environ) or default.telemetry_path
    if not path.startswith("/") or path == "/" or not path.isprintable() or set(path) & set(" ?#{}"):
        raise _UsageError("--web.telemetry-path must be a path such as /metrics")
    if f"{path}/".startswith(("/campaigns/", "/config/", "/static/", "/-/")):
        raise _UsageError("--web.telemetry-path is that of another page; choose one such as /metrics")
    total = _number("--total-shards", _setting(parsed.total_shards, "TOTAL_SHARDS", environ) or "1")
    shard = _number("--shard", _setting(parsed.shard, "SHARD", environ) or "0")
    if total < 1 or not 0 <= shard < total:
        raise _UsageError("--shard must be at least 0 and less than --total-shards")
    return Options(
        listen_addresses=tuple(address for address in addresses if address) or default.listen_addresses,
        telemetry_path=path,
        web_config=Path(web_config) if web_config else None,
        lifecycle=parsed.lifecycle or _truth(environ.get(f"{ENVIRONMENT}WEB_ENABLE_LIFECYCLE", "")),
        shard=shard,
        total_shards=total,
    )


def _set_up_logs(parsed: argparse.Namespace, environ: Mapping[str, str]) -> None:
    # The report says it all; the log would stand between its lines
    default = "error" if parsed.command == "doctor" else "info"
    level = _setting(parsed.log_level, "LOG_LEVEL", environ) or default
    form = _setting(parsed.log_format, "LOG_FORMAT", environ) or "logfmt"
    try:
        logs.setup(level.lower(), form.lower())
    except ValueError as error:
        raise _UsageError(f"--log.level, --log.format: {error}") from None


def _setting(flag: str | None, variable: str, environ: Mapping[str, str]) -> str | None:
    return flag if flag is not None else environ.get(ENVIRONMENT + variable)


def _number(flag: str, text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise _UsageError(f"{flag} must be a whole number")
    return int(text)


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed <= _FASTEST:
        raise argparse.ArgumentTypeError(f"must be a number above 0, and at most {_FASTEST:.0f}")
    return speed


def _truth(text: str) -> bool:
    if text.lower() not in {"", "0", "1", "true", "false", "yes", "no"}:
        raise _UsageError(f"{ENVIRONMENT}WEB_ENABLE_LIFECYCLE must be true or false")
    return text.lower() in {"1", "true", "yes"}


def _complain(*lines: str) -> None:
    for line in lines:
        sys.stderr.write(logs.redact(line) + "\n")
    sys.stderr.flush()


def _common(*, configured: bool) -> Parser:
    """Return the flags that may stand before or after the command; anew, as parsers change their parents'."""
    common = Parser(add_help=False)
    if configured:
        common.add_argument(
            "--config.file",
            dest="config_file",
            metavar="FILE",
            default=argparse.SUPPRESS,
            help="see `print example-config` (default: one account, if INTARGET_ACCESS_TOKEN is set)",
        )
    common.add_argument(
        "--log.level",
        dest="log_level",
        metavar="LEVEL",
        default=argparse.SUPPRESS,
        help=f"{', '.join(logs.LEVELS)} (default: info; doctor: error)",
    )
    common.add_argument(
        "--log.format",
        dest="log_format",
        metavar="FORMAT",
        default=argparse.SUPPRESS,
        help=f"{' or '.join(logs.FORMATS)} (default: logfmt)",
    )
    return common


def _add_account(parser: Parser) -> None:
    parser.add_argument(
        "--account", action="append", default=[], metavar="NAME", help="only this account; repeatable"
    )


def _add_output(parser: Parser, formats: str) -> None:
    parser.add_argument(
        "--output", type=one_of(("text", "json")), metavar="FORMAT", default="text", help=formats
    )


def build_parser() -> Parser:
    """Return the parser of the command line, with every command and flag."""
    parser = Parser(
        prog="intarget-exporter",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_common(configured=True)],
    )
    parser.set_defaults(config_file=None, log_level=None, log_format=None)
    parser.add_argument("--version", action="version", version=f"intarget-exporter, version {__version__}")
    _add_serving_flags(parser)
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    _add_once(commands)
    _add_check_config(commands)
    _add_doctor(commands)
    _add_backfill(commands)
    _add_simulate(commands)
    _add_print(commands)
    return parser


def _add_once(commands: argparse._SubParsersAction[Parser]) -> None:
    single = commands.add_parser(
        "once",
        parents=[_common(configured=True)],
        help="poll every account once and print the exposition",
        description="Poll every account once and print the exposition. Exit code 1 if an account failed.",
    )
    _add_account(single)
    _add_output(
        single, "text: the exposition; json: vendor values, exported values and overcounts of each campaign"
    )


def _add_check_config(commands: argparse._SubParsersAction[Parser]) -> None:
    checked = commands.add_parser(
        "check-config",
        parents=[_common(configured=True)],
        help="report every fault of the configuration at once",
        description="Report every fault of the configuration at once, with file and line, and of the web"
        " configuration if there is one. Polls nothing.",
    )
    checked.add_argument(
        "--web.config.file",
        dest="web_config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="check this file, too, with the certificates that it names",
    )


def _add_doctor(commands: argparse._SubParsersAction[Parser]) -> None:
    examined = commands.add_parser(
        "doctor",
        parents=[_common(configured=True)],
        help="ask and poll every account once and report what is wrong",
        description="Ask and poll every account once and report, line by line, what works, what doesn't and"
        " what to do about it. Writes nothing. Exit code 1 if there is a problem.",
    )
    _add_account(examined)
    _add_output(examined, "text: for people; json: for machines")
    examined.add_argument(
        "--record",
        metavar="FILE",
        help="write there what the API answered, for a bug report: without token and address, and with titles,"
        " names, ids and amounts replaced; read it before you pass it on",
    )


def _add_serving_flags(parser: Parser) -> None:
    serving = parser.add_argument_group("serving")
    serving.add_argument(
        "--web.listen-address",
        dest="listen_address",
        action="append",
        metavar="ADDRESS",
        help="such as :10095 or 127.0.0.1:0, which takes any free port; repeatable (default: :10095)",
    )
    serving.add_argument(
        "--web.telemetry-path",
        dest="telemetry_path",
        metavar="PATH",
        help="where metrics are (default: /metrics)",
    )
    serving.add_argument(
        "--web.config.file",
        dest="web_config",
        metavar="FILE",
        help="TLS, client certificates and basic auth, in the format of Prometheus' exporter-toolkit",
    )
    serving.add_argument(
        "--web.enable-lifecycle",
        dest="lifecycle",
        action="store_true",
        help="allow POST /-/reload and /-/quit",
    )
    serving.add_argument(
        "--shard", metavar="N", help="which share of the accounts to poll, from 0 (default: 0)"
    )
    serving.add_argument("--total-shards", metavar="N", help="how many shares there are (default: 1)")
    serving.add_argument(
        "--demo", action="store_true", help="poll the bundled simulator: no token, no file needed"
    )
    serving.add_argument(
        "--scenario",
        dest="demo_scenario",
        type=one_of(simulator.SCENARIOS),
        metavar="NAME",
        help="what happens in the demo (default: calm); `simulate --help` lists the names",
    )


def _add_backfill(commands: argparse._SubParsersAction[Parser]) -> None:
    filled = commands.add_parser(
        "backfill",
        parents=[_common(configured=True)],
        help="write the history of a span of time as files for promtool",
        description="Write the history of a span of time as OpenMetrics files, one for each account and month,"
        " for `promtool tsdb create-blocks-from openmetrics FILE DATA`. After an interruption the same command"
        " goes on from there. Exit code 1 if an account failed, or something is missing.",
    )
    filled.add_argument(
        "--from",
        dest="first",
        metavar="TIME",
        help="2026-01-31 (its first second) or 2026-01-31T12:00:00Z; UTC",
    )
    filled.add_argument(
        "--to",
        dest="last",
        metavar="TIME",
        help="2026-06-30 (its last second) or 2026-06-30T12:00:00Z; UTC, included; at most now",
    )
    filled.add_argument(
        "--step",
        default="1d",
        metavar="DURATION",
        help="how far samples are apart, at least 1m (default: 1d); a step costs a request or more",
    )
    filled.add_argument(
        "--output",
        metavar="DIR",
        help="where the files go, and what was answered so far (a hidden file for each account)",
    )
    filled.add_argument(
        "--job", default="", metavar="NAME", help="the label job of every series, as Prometheus sets it"
    )
    filled.add_argument(
        "--instance",
        default="",
        metavar="NAME",
        help="the label instance, likewise: then live data continue it",
    )
    filled.add_argument(
        "--dry-run", action="store_true", help="ask and write nothing; say how many requests and which files"
    )
    _add_account(filled)


def _add_simulate(commands: argparse._SubParsersAction[Parser]) -> None:
    scenarios = "\n".join(f"  {name:18} {one.description}" for name, one in simulator.SCENARIOS.items())
    simulate = commands.add_parser(
        "simulate",
        parents=[_common(configured=False)],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="serve the bundled simulated API alone",
        description="Serve the bundled simulated API alone.",
        epilog=f"scenarios:\n{scenarios}",
    )
    simulate.add_argument(
        "--web.listen-address",
        dest="address",
        default="127.0.0.1:8080",
        metavar="ADDRESS",
        help="default: 127.0.0.1:8080",
    )
    simulate.add_argument(
        "--scenario", type=one_of(simulator.SCENARIOS), default=_CALM, metavar="NAME", help="default: calm"
    )
    simulate.add_argument(
        "--seed", type=whole_number, default=1, help="another seed gives other campaigns (default: 1)"
    )
    simulate.add_argument(
        "--replay", metavar="FILE", help="serve what doctor --record wrote instead of a scenario"
    )
    simulate.add_argument(
        "--speed", type=_speed, default=1.0, help="how many times faster than life campaigns run (default: 1)"
    )
    simulate.add_argument(
        "--token", default=simulator.DEMO_TOKEN, help="the access token to be asked for (default: %(default)s)"
    )


def _add_print(commands: argparse._SubParsersAction[Parser]) -> None:
    printed = commands.add_parser(
        "print",
        parents=[_common(configured=False)],
        help="print the example of a configuration, its schema, the rules or the dashboards",
        description="Print what is shipped beside the exporter, such as `print example-config > config.yaml`."
        " Rules are printed as one file; dashboards are several, so they need --output.",
    )
    printed.add_argument("what", type=one_of(shipped.KINDS), metavar="WHAT", help=", ".join(shipped.KINDS))
    printed.add_argument("--output", metavar="DIR", help="write the files into this folder instead")


if __name__ == "__main__":
    main()
