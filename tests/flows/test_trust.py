"""A live parcel is signed, verified, sealed and looked at for a mark, by the functions and by the commands."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from flows import cli_trust, trust, watermark
from flows.options import UsageError
from flows.workshop import Workshop
from infra.ledger import LedgerError
from infra.promotion import PROMOTE
from infra.settings import Settings
from models.artifact.manifest import ParcelError, read_and_verify
from models.artifact.sealed import is_sealed, read_parcel
from models.artifact.signature import SignatureError, key_id, verify_file, verify_folder
from tests.services.conftest import make_parcel


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A home in which the product `tiny` is live; the commands open it."""
    shop = Workshop(Settings(home=tmp_path / "home"))
    digest = make_parcel(tmp_path / "tiny parcel", "forecast")
    shop.store.put_folder(f"parcels/{digest}", tmp_path / "tiny parcel")
    shop.ledger.append(PROMOTE, "tiny", version=3, digest=digest)
    monkeypatch.setattr(cli_trust, "open_workshop", lambda: shop)
    return shop


@pytest.fixture
def parcel(shop: Workshop, tmp_path: Path) -> Path:
    return tmp_path / "tiny parcel"


Command = Callable[..., Any]


@pytest.fixture
def run(shop: Workshop) -> Command:
    """run("sign", "tiny") -> what it printed as JSON; an error comes through, as `main` gets it."""

    def command(*words: str, status: int = 0) -> Any:
        group, rest = (cli_trust.watermark_app, words[2:]) if words[0] == "watermark" else (cli_trust.app, words)
        result = CliRunner().invoke(group, [*rest, "--json"])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        return json.loads(result.stdout)

    return command


def test_a_live_product_is_signed_once_and_verified(shop: Workshop, run: Command) -> None:
    first, again = run("sign", "tiny"), run("sign", "tiny")
    assert first == again
    signature = Path(first["signature"]).read_bytes()
    run("sign", "tiny")
    assert Path(first["signature"]).read_bytes() == signature, "so that packing again packs the same bytes"
    found = run("verify", "tiny")
    assert found["verified"] and found["key"] == first["key"] and len(found["files"]) == 4
    assert found["digest"] == trust.named_parcel(shop, "tiny")[1]


def test_what_goes_into_a_bento_verifies_there(shop: Workshop, parcel: Path, tmp_path: Path) -> None:
    digest = read_and_verify(parcel).digest()
    signature, public = trust.signed(shop, parcel, digest)
    (tmp_path / "parcel.sig").write_bytes(signature)
    assert verify_folder(parcel, tmp_path / "parcel.sig", [public]) == key_id(public)
    assert trust.signed(shop, parcel, digest) == (signature, public)
    (tmp_path / "service.json").write_text("{}")
    (tmp_path / "service.sig").write_bytes(trust.signed_content(shop, (tmp_path / "service.json").read_bytes()))
    assert verify_file(tmp_path / "service.json", tmp_path / "service.sig", [public]) == key_id(public)


def test_what_does_not_hold_is_never_signed(shop: Workshop, parcel: Path) -> None:
    with pytest.raises(ParcelError, match="expected digest 000000000000"):
        trust.signed(shop, parcel, "0" * 64)
    (parcel / "card.md").write_text("another")
    with pytest.raises(ParcelError, match=r"card\.md was changed"):
        trust.sign_parcel(shop, parcel)
    assert not list((shop.home / "signatures").glob("*"))


def test_a_tampered_folder_is_refused_with_the_reason(run: Command, parcel: Path) -> None:
    signature = Path(run("sign", str(parcel))["signature"])
    assert signature == parcel.with_name("tiny parcel.sig")
    run("verify", str(parcel))
    (parcel / "golden.json").write_text("{}")
    with pytest.raises(SignatureError, match=r"golden\.json was changed after it was signed"):
        run("verify", str(parcel))


def test_a_key_of_somebody_else_and_an_unsigned_folder_are_refused(
    shop: Workshop, run: Command, parcel: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no key to believe"):
        run("verify", "tiny")
    trust.own_key(shop)
    with pytest.raises(SignatureError, match="signature missing; sign the folder: roadworthy sign"):
        run("verify", "tiny")
    run("sign", str(parcel))
    stranger = trust.own_key(Workshop(Settings(home=tmp_path / "stranger")))
    with pytest.raises(SignatureError, match="not among the 1 trusted"):
        run("verify", str(parcel), "--key", str(stranger.file.with_suffix(".pub")))
    with pytest.raises(UsageError, match="no such: expected a live product or a folder, got neither; live: tiny"):
        run("verify", "no such")


def test_a_new_key_leaves_the_old_signatures_good(run: Command, parcel: Path) -> None:
    old = run("sign", str(parcel))
    new = run("sign", "tiny", "--new-key")
    assert new["key"] != old["key"]
    assert run("verify", str(parcel))["key"] == old["key"]
    assert run("verify", "tiny")["key"] == new["key"]


def test_another_parcel_signed_by_us_is_not_the_live_one(
    shop: Workshop, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_parcel(tmp_path / "other", "classify")
    signature = run("sign", str(tmp_path / "other"))["signature"]
    monkeypatch.setattr(trust, "parcel_folder", lambda *_: tmp_path / "other")
    with pytest.raises(SignatureError, match="expected the live parcel"):
        run("verify", "tiny", "--signature", signature)


def test_sealed_and_signed(shop: Workshop, run: Command, tmp_path: Path) -> None:
    target = tmp_path / "sealed"
    record = run("seal", "tiny", str(target))
    assert is_sealed(target) and Path(record["signature"]) == tmp_path / "sealed.sig"
    key = trust.seal_key(shop)
    assert read_parcel(target, key)[0].digest() == run("verify", str(target))["digest"]
    with pytest.raises(UsageError, match="got one that exists"):
        run("seal", "tiny", str(target))
    other = run("seal", "tiny", str(tmp_path / "other"), "--key-command", f"echo {'ab' * 32}")
    assert other["seal_key"] != record["seal_key"]
    assert read_parcel(tmp_path / "other", bytes([0xAB] * 32))[0].product == "tiny"


def test_ledgers_are_sealed_and_held_against_their_seals(shop: Workshop) -> None:
    (seal,) = trust.seal_ledgers(shop)
    assert (seal["ledger"], seal["seq"]) == ("ledger/ledger.jsonl", 1)
    assert trust.seal_ledgers(shop) == []
    assert [check.reason for check in trust.verify_seals(shop)] == [""]
    seals = shop.home / "audit" / "seals.jsonl"
    seals.write_bytes(seals.read_bytes().replace(b'"seq":1', b'"seq":2'))
    with pytest.raises(LedgerError, match="the seal was changed"):
        trust.verify_seals(shop)


def graph() -> bytes:
    weights = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    sizes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64]) for name in "xy"]
    node = helper.make_node("MatMul", ["x", "weights"], ["y"])
    stored = numpy_helper.from_array(weights, "weights")
    return helper.make_model(helper.make_graph([node], "g", sizes[:1], sizes[1:], [stored])).SerializeToString()


def test_a_mark_is_found_and_its_owner_compared(shop: Workshop, run: Command, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(graph())
    assert run("watermark", "check", str(file), status=1)["marked"] is False
    assert watermark.mark(shop, file, "city of Salem")
    found = run("watermark", "check", str(file), "--owner", "city of Salem")
    assert found["marked"] and found["owner_agrees"] and found["agreeing"] == found["pilots"] == 64
    assert run("watermark", "check", str(file), "--owner", "somebody")["owner_agrees"] is False


def test_a_graph_with_too_few_weights_is_left_as_it_is(shop: Workshop, parcel: Path) -> None:
    before = (parcel / "model.onnx").read_bytes()
    assert not watermark.mark(shop, parcel / "model.onnx", "x")
    assert (parcel / "model.onnx").read_bytes() == before
    onnx.load_from_string(before)
