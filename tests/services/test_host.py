"""Several models, versions, ensembles and tenants in one process, and what is swapped under it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.settings import ServiceSettings
from infra.signing import SigningKey, sign_folder, signing_key
from services.answers import Refusal
from services.host import Host
from services.runtime import Ensemble, RefusedParcelError, Served
from tests.services.conftest import make_release_folder, make_window

OPEN = ServiceSettings(signatures="off")
BODY = json.dumps({"data": make_window()}).encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """tiny/3, and beside it tiny/4, other/1 and the pictures of images/1."""
    made = make_release_folder(tmp_path / "release")
    make_release_folder(made / "models" / "tiny" / "4", seed=8, version=4)
    make_release_folder(made / "models" / "other" / "1", seed=9, product="other", version=1)
    make_release_folder(made / "models" / "images" / "1", "classify", product="images", version=1)
    return made


def plan(folder: Path, **fields: Any) -> Path:
    (folder / "service.json").write_text(json.dumps(fields))
    return folder


def opened(folder: Path, settings: ServiceSettings = OPEN) -> Host:
    host = Host(folder, settings)
    host.load()
    assert host.reason == ""
    return host


def refused(folder: Path, settings: ServiceSettings = OPEN) -> str:
    host = Host(folder, settings)
    host.load()
    assert host.served is None and host.names() == {}
    return host.reason


def answer(served: Served, body: bytes = BODY) -> Any:
    return json.loads(served.predict(body, "id-1")[0])


def forecast(served: Served) -> Any:
    return np.array(answer(served)["predictions"], np.float32)


def test_models_are_found_by_name_and_version(folder: Path) -> None:
    host = opened(folder)
    assert host.names() == {"images": ["1"], "other": ["1"], "tiny": ["3", "4"]} and host.default_of("") == "tiny"
    asked = [("", ""), ("tiny", ""), ("tiny", "3"), ("tiny", "4"), ("", "4"), ("other", "")]
    found = [host.find(*one).model_version for one in asked]
    assert found == ["tiny/3", "tiny/3", "tiny/3", "tiny/4", "tiny/4", "other/1"]
    assert not np.array_equal(forecast(host.find()), forecast(host.find("tiny", "4")))


@pytest.mark.parametrize(
    ("name", "version", "where", "known"),
    [("nobody", "", "model", "tiny"), ("tiny", "5", "model tiny", "3, 4"), ("", "x", "model tiny", "3, 4")],
)
def test_an_unknown_model_is_told_the_known_ones(folder: Path, name: str, version: str, where: str, known: str) -> None:
    with pytest.raises(Refusal) as refusal:
        opened(folder).find(name, version)
    assert refusal.value.status == 404 and refusal.value.where == where and known in refusal.value.expected


def test_nothing_is_found_while_nothing_is_served(folder: Path) -> None:
    with pytest.raises(Refusal) as refusal:
        Host(folder, OPEN).find()
    assert refusal.value.status == 503 and "not loaded yet" in refusal.value.got


def test_an_ensemble_is_the_weighted_mean_of_its_members(folder: Path) -> None:
    host = opened(plan(folder, ensembles={"both": {"members": ["tiny/3", "tiny/4"], "weights": [3, 1]}}))
    both, three, four = (host.find(*one) for one in (("both", ""), ("tiny", "3"), ("tiny", "4")))
    assert isinstance(both, Ensemble) and both.weights == (0.75, 0.25) and both.members == (three, four)
    np.testing.assert_allclose(forecast(both), 0.75 * forecast(three) + 0.25 * forecast(four), rtol=1e-6)
    assert both.model_version == "both/1" and len(both.release.parcel_digest) == 64
    assert host.names()["both"] == ["1"]


def test_an_ensemble_of_classes_means_probabilities(folder: Path) -> None:
    host = opened(plan(folder, ensembles={"pictures": {"members": ["images/1"]}}))
    body = json.dumps({"data": np.full((3, 3), 0.1).tolist()}).encode()
    one, mean = (answer(host.find(name), body)["predictions"] for name in ("images", "pictures"))
    assert mean["label"] == one["label"] and mean["probability"] == pytest.approx(one["probability"], rel=1e-6)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"ensembles": {"odd": {"members": ["tiny/3", "images/1"]}}}, "task"),
        ({"ensembles": {"odd": {"members": ["tiny/3", "tiny/9"]}}}, "tiny/9"),
        ({"ensembles": {"odd": {"members": ["tiny/3"], "weights": [1, 1]}}}, "1 weights"),
        ({"ensembles": {"odd": {"members": ["tiny/3"], "weights": [-1]}}}, "at least 0"),
        ({"ensembles": {"tiny": {"members": ["tiny/3"]}}}, "has that name"),
        ({"ensembles": {"a": {"members": ["tiny/3"]}, "b": {"members": ["a/1"]}}}, "ensemble itself"),
        ({"tenants": {"north": {"model": "nobody"}}}, "not served"),
        ({"tenants": {"north": {"model": "images"}}}, "contract"),
        ({"tenants": {"north": {"labels": {"z": "Z"}}}}, "'z'"),
        ({"tenants": {"north": {"thresholds": {"a": 0.5}}}}, "threshold"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_a_plan_that_does_not_fit_is_not_served(folder: Path, fields: dict[str, Any], word: str) -> None:
    assert word in refused(plan(folder, **fields))


def test_tenants_get_their_model_and_their_words(folder: Path) -> None:
    north = {"model": "tiny", "version": "4", "labels": {"a": "A 1 north"}}
    host = opened(plan(folder, tenants={"north": north, "south": {"model": "other"}}))
    versions = [host.find(tenant=tenant).model_version for tenant in ("", "nobody", "north", "south")]
    assert versions == ["tiny/3", "tiny/3", "tiny/4", "other/1"]
    assert answer(host.find(tenant="north"))["nodes"] == ["A 1 north", "b", "c"]
    assert answer(host.find("tiny", "3", "north"))["nodes"] == ["A 1 north", "b", "c"]
    assert answer(host.find("tiny", "4"))["nodes"] == ["a", "b", "c"]


def test_a_tenants_threshold_decides_its_label(tmp_path: Path) -> None:
    thresholds = {"zero": 0.001, "one": 1.0}
    host = opened(plan(make_release_folder(tmp_path / "r", "classify"), tenants={"north": {"thresholds": thresholds}}))
    body = json.dumps({"data": np.full((3, 3), 0.1).tolist()}).encode()
    plain, north = (answer(host.find(tenant=tenant), body)["predictions"] for tenant in ("", "north"))
    assert (plain["label"], north["label"]) == ("one", "zero") and plain["probabilities"] == north["probabilities"]


def test_a_misplaced_release_is_not_served(folder: Path) -> None:
    (folder / "models" / "tiny" / "4").rename(folder / "models" / "tiny" / "5")
    assert "tiny/4" in refused(folder)


def test_limits_are_the_plans_where_no_setting_says_otherwise(folder: Path) -> None:
    plan(folder, limits={"deadline_ms": 50})
    assert opened(folder).deadline_s == 0.05
    assert opened(folder, ServiceSettings(signatures="off", deadline_ms=80)).deadline_s == 0.08


def test_a_swap_serves_another_folder_and_a_bad_one_changes_nothing(folder: Path, tmp_path: Path) -> None:
    host = opened(folder)
    before = host.find()
    bad = make_release_folder(tmp_path / "bad", seed=10, version=5)
    (bad / "parcel" / "model.onnx").write_bytes(b"x")
    with pytest.raises(RefusedParcelError, match=r"model\.onnx"):
        host.swap(bad)
    assert host.find() is before
    host.swap(make_release_folder(tmp_path / "next", seed=10, version=5))
    assert host.names() == {"tiny": ["5"]} and host.find().model_version == "tiny/5"
    assert forecast(before) is not None  # who holds the old one is answered


def test_no_request_is_dropped_while_models_are_swapped(tmp_path: Path) -> None:
    folders = [make_release_folder(tmp_path / str(number), seed=number, version=number) for number in (1, 2)]
    host = opened(folders[0])

    async def ask() -> set[str]:
        seen = set()
        swaps = asyncio.ensure_future(swap())
        while not swaps.done():
            served = host.find()
            outputs = await served.infer(served.reader.read(BODY).inputs)
            assert np.array_equal(outputs["forecast"][0], forecast(served))
            seen.add(served.model_version)
            await asyncio.sleep(0)
        return seen

    async def swap() -> None:
        for number in range(6):
            await asyncio.to_thread(host.swap, folders[(number + 1) % 2])

    assert asyncio.run(ask()) == {"tiny/1", "tiny/2"}


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return signing_key(tmp_path_factory.mktemp("home"))


def signed(folder: Path, key: SigningKey) -> Path:
    """The folder with the signature of every parcel in it, and of its plan."""
    for parcel in sorted(folder.rglob("parcel")):
        sign_folder(parcel, parcel.parent / "parcel.sig", key)
        sign_folder(parcel.parent / "release.json", parcel.parent / "release.sig", key)
    if (folder / "service.json").exists():
        sign_folder(folder / "service.json", folder / "service.sig", key)
    (folder / "trust").mkdir(exist_ok=True)
    (folder / "trust" / "key.pub").write_bytes(key.public)
    return folder


def test_only_what_was_signed_is_opened(folder: Path, key: SigningKey) -> None:
    asked = ServiceSettings()
    assert "public keys" in refused(folder, asked)
    signed(plan(folder, ensembles={"both": {"members": ["tiny/3", "tiny/4"]}}), key)
    assert "both" in opened(folder, asked).names()
    plan(folder, ensembles={})
    assert "SignatureError" in refused(folder, asked)
    (folder / "service.json").unlink()
    (folder / "models" / "tiny" / "4" / "parcel" / "card.md").write_text("# tiny, changed\n")
    assert "card.md" in refused(folder, asked)


def test_a_folder_cannot_vouch_for_itself_in_a_swap(tmp_path: Path, key: SigningKey) -> None:
    host = opened(signed(make_release_folder(tmp_path / "first"), key), ServiceSettings())
    stranger = signing_key(tmp_path / "stranger")
    with pytest.raises(RefusedParcelError, match="not among"):
        host.swap(signed(make_release_folder(tmp_path / "next", seed=8, version=4), stranger))
    assert host.find().model_version == "tiny/3"


def test_a_plan_that_was_taken_away_is_missed(folder: Path, key: SigningKey) -> None:
    release = json.loads((folder / "release.json").read_text())
    (folder / "release.json").write_text(json.dumps({**release, "plan_digest": "0" * 64}))
    host = Host(signed(folder, key), ServiceSettings())
    host.load()
    assert "service.json: expected 000000000000, got no file" in host.reason
