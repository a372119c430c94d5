"""A recording says nothing of whose it is, and serves as the recorded server did."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from exporter import simulator
from exporter.api.fields import CONVERSIONS, STATISTICS
from exporter.api.model import Query, Reply
from exporter.config.model import Config
from exporter.doctor.examine import examine
from exporter.doctor.recording import Exchange, recording
from exporter.errors import ClientError, RequestTimeoutError
from tests._program import run

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.doctor.report import Report

TOKEN = "canary/token+9341"


def exchange(
    document: object, resource: str = STATISTICS, query: Query | None = None, **headers: str
) -> Exchange:
    """Return one request and its answer."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    query = query or Query(start_from=0, start_to=1)
    return Exchange(
        resource, query, Reply(body, {name.replace("_", "-"): value for name, value in headers.items()}, 0.1)
    )


def recorded(*exchanges: Exchange) -> list[dict[str, Any]]:
    """Return the recorded answers."""
    return json.loads(recording(exchanges, at=1000.0))["answers"]


def body(*documents: object) -> list[Any]:
    """Return the recorded bodies."""
    return [answer["body"] for answer in recorded(*(exchange(document) for document in documents))]


def examined(url: str, record: list[str] | None = None) -> Report:
    """Run doctor against a server."""
    config = Config.model_validate(
        {
            "accounts": [{"name": "Acme Shop", "access_token": TOKEN, "base_url": url}],
            "api": {"requests_per_second": 1000, "retries": 0},
            "state": {"path": None},
        }
    )
    return examine(
        config, wall=time.time, monotonic=time.monotonic, record=None if record is None else record.append
    )


@pytest.mark.parametrize("scenario", ["campaign-pages", "local-time", "garbage"])
def test_recording_has_no_original_string(scenario: str) -> None:
    """Neither token nor address nor account is in it, and of rows no title, name, identifier or amount."""
    scene = replace(simulator.SCENARIOS[scenario], history_days=20, faults=simulator.Faults())
    world = simulator.Simulator(7, time.time, scene, TOKEN)
    text: list[str] = []
    with simulator.serve(world) as server:
        examined(server.url, text)
        port = str(server.port)
    (written,) = text
    plain = json.dumps(json.loads(written), ensure_ascii=False)
    campaigns = world.campaigns(time.time() + 60, first=time.time() - 400 * 86_400)
    assert len(campaigns) > 50
    originals = {TOKEN, "canary", "Acme", "127.0.0.1", f":{port}"}
    originals |= {campaign.name for campaign in campaigns}
    originals |= {message.title for campaign in campaigns for message in campaign.messages}
    for original in originals:
        for form in {original, original.strip(), json.dumps(original)[1:-1]}:
            assert len(form) < 4 or form not in plain
    ids = {str(campaign.campaign_id) for campaign in campaigns}
    renumbered = {
        number
        for one in json.loads(written)["answers"]
        for number in one["parameters"].get("campaignIds[]", ())
    }
    found = set(re.findall(r'"campaign_id": "?(\d+)', written)) | renumbered
    assert found
    assert not found & ids
    true = world.truth_conversions(time.time() + 60, first=time.time() - 400 * 86_400)
    amounts = {str(amount) for _, amount, _ in true.values() if amount > 10_000}  # no chance replacements
    assert amounts
    assert not [amount for amount in amounts if f'"{amount}"' in plain]


def test_titles_and_names_are_replaced_alike() -> None:
    """The same text always has the same replacement, another text another one; none stays none."""
    rows = [
        {"campaign_id": 5, "message_title": title, "campaign_name": name, "type": "Email"}
        for title, name in [("Spring", "N"), ("Autumn", "N"), ("Spring", "M"), (None, "")]
    ]
    found = body(rows)[0]
    assert ["Title 1", "Title 2", "Title 1", None] == [row["message_title"] for row in found]
    assert ["Name 1", "Name 1", "Name 2", ""] == [row["campaign_name"] for row in found]
    assert {"Email"} == {row["type"] for row in found}


def test_identifiers_keep_order_digits_and_form() -> None:
    """Identifiers are renumbered in their order, with as many digits, in rows, queries and keys alike."""
    one = exchange(
        {"117": {"campaign_id": 117}, "9": {"campaign_id": "9"}, "2300": {"campaign_id": 2300}},
        query=Query(campaign_ids=(2300, 9, 118)),
    )
    (answer,) = recorded(one)
    assert {"100": {"campaign_id": 100}, "1": {"campaign_id": "1"}, "1000": {"campaign_id": 1000}} == answer[
        "body"
    ]
    assert ["1000", "1", "101"] == answer["parameters"]["campaignIds[]"]
    assert 10**18 == body([{"campaign_id": 1234567890123456789}])[0][0]["campaign_id"]


@pytest.mark.parametrize(
    "odd", [-9_876_543_210, [9_876_543_210], ["9876543210"], "-9876543210", 9_876_543_210.5]
)
def test_odd_identifiers_are_replaced(odd: object) -> None:
    """What is no identifier doesn't stop the recording of an odd server, and isn't shown either."""
    (found,) = body([{"campaign_id": odd, "sent": 1}])
    assert "9876543210" not in json.dumps(found)
    assert 1 == found[0]["sent"]


def test_amounts_keep_their_form() -> None:
    """Amounts keep their digits and points, nothing stays nothing, and counts stay."""
    row = {"campaign_id": 1, "deposits_amount": "18752.40", "deposits_count": "154", "sent": 12}
    found = body([row, row | {"deposits_amount": "0.00"}, row | {"deposits_amount": 17.5}, row])[0]
    assert re.fullmatch(r"[1-9]{5}\.[1-9]{2}", found[0]["deposits_amount"])
    assert found[0]["deposits_amount"] == found[3]["deposits_amount"] != "18752.40"
    assert "0.00" == found[1]["deposits_amount"]
    assert 17.5 != found[2]["deposits_amount"]
    assert ("154", 12) == (found[0]["deposits_count"], found[0]["sent"])


def test_what_is_unknown_is_replaced() -> None:
    """Fields that nobody documented, texts around the rows and odd values lose their texts and numbers."""
    row = {
        "campaign_id": 1,
        "owner": "anna@acme.example",
        "revenue": 812_345,
        "type": "a name: Anna",
        "sent": "x y",
    }
    whole = {"status": "ok", "message": "for Anna", "total": 1, "anna@acme.example": True, "data": [row]}
    row["extra"] = {"count": 580_234_567}
    whole |= {"_meta": {"perPage": 50, "totalCount": 7, "user_id": 470_123_456, "total_revenue": 690_345_678}}
    (found,) = body(whole)
    meta = found["_meta"]
    assert ("ok", 1, 50, 7) == (found["status"], found["total"], meta["perPage"], meta["totalCount"])
    text = json.dumps(found)
    assert not re.search("812345|470123456|580234567|690345678", text)
    assert not re.search("anna|acme|x y", text, re.IGNORECASE)


def test_odd_times_stay_and_odd_texts_do_not() -> None:
    """What parsing stumbles over has to be in a bug report."""
    rows = [
        {"campaign_id": 1, "campaign_stop_at": text}
        for text in ("infinity", "0000-00-00 00:00:00", "", "Anna's day")
    ]
    found = [row["campaign_stop_at"] for row in body(rows)[0]]
    assert ["infinity", "0000-00-00 00:00:00", ""] == found[:3]
    assert "Anna" not in found[3]


def test_refusals_headers_and_pages_of_the_web() -> None:
    """Statuses and reasons are kept, of headers those that matter, of a web page that it was one."""
    query = Query(campaign_ids=(7,))
    answers = recorded(
        Exchange(STATISTICS, query, error=ClientError("Anna may not", status=422)),
        Exchange(CONVERSIONS, query, error=RequestTimeoutError("slow")),
        exchange(b"<html>Anna</html>", date="Sat, 28 Nov 2026 00:15:56 GMT", set_cookie="anna", x_total="7"),
        exchange(b"Anna", x_total="Anna"),
    )
    assert [(422, "client_error"), (None, "timeout")] == [(one["status"], one["reason"]) for one in answers[:2]]
    assert {"date": "Sat, 28 Nov 2026 00:15:56 GMT", "x-total": "7"} == answers[2]["headers"]
    assert ["web page", "other"] == [one["no_json"] for one in answers[2:]]
    assert "Anna" not in json.dumps(answers)


@pytest.mark.parametrize("scenario", ["calm", "strict", "campaign-pages", "local-time"])
def test_replay_gives_the_same_readings(scenario: str) -> None:
    """Whoever examines the replay finds the server that was recorded."""
    scene = replace(simulator.SCENARIOS[scenario], history_days=20)
    text: list[str] = []
    with simulator.serve(simulator.Simulator(7, time.time, scene, TOKEN)) as server:
        original = examined(server.url, text)
    with simulator.serve(simulator.Replay(text[0], time.time)) as server:
        replayed = examined(server.url)
    for was, now in zip(original.accounts[0].servers, replayed.accounts[0].servers, strict=True):
        assert was.requests == now.requests
        for before, after in zip(
            was.readings[:-1], now.readings[:-1], strict=True
        ):  # the last one is the latency
            assert (before.point, before.value) == (after.point, after.value)


@pytest.mark.e2e
def test_commands(tmp_path: Path) -> None:
    """The flags do it: doctor records into a file, and says where it can't; simulate refuses what is none."""
    with simulator.serve(simulator.Simulator(7, time.time, simulator.SCENARIOS["calm"], TOKEN)) as server:
        config = tmp_path / "config.yaml"
        config.write_text(
            f"accounts: [{{name: main, access_token: {TOKEN}, base_url: '{server.url}'}}]\n"
            "api: {requests_per_second: 1000}\nstate: {path: null}\n"
        )
        config.chmod(0o600)
        file = tmp_path / "recording.json"
        result = run("doctor", "--config.file", str(config), "--record", str(file), cwd=tmp_path)
        assert 0 == result.returncode, result.stderr
        assert 1 == json.loads(file.read_text())["intarget_recording"]
        result = run("doctor", "--config.file", str(config), "--record=/nowhere/x", cwd=tmp_path)
        assert 2 == result.returncode
        assert "--record: can't be written to" in result.stderr
    for path, reason in ((config, "not a recording"), (tmp_path / "none", "can't be read")):
        result = run("simulate", "--replay", str(path), "--web.listen-address=127.0.0.1:0", cwd=tmp_path)
        assert 2 == result.returncode
        assert reason in result.stderr
