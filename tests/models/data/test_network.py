"""A road network is read whole or refused with everything that is wrong with it."""

from pathlib import Path

import pytest

from models.data.network import check_network, read_network

HEAD = "edge,source,target,length_m,speed_mps\n"
GOOD = HEAD + "ab,a,b,100,10\nba,b,a,100.5,10\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "streets.csv"
    path.write_text(text)
    return path


def test_a_good_network_is_read(tmp_path: Path) -> None:
    network, findings = read_network(written(tmp_path, GOOD))
    assert network is not None and not findings
    assert (network.edges, network.targets, network.length_m) == (("ab", "ba"), ("b", "a"), (100, 100.5))


def test_a_node_that_cannot_be_reached_is_a_warning(tmp_path: Path) -> None:
    network, (finding,) = read_network(written(tmp_path, GOOD + "bc,b,c,50,10\n"))
    assert network is not None
    assert (finding.severity, finding.got, finding.count) == ("warning", "not c", 1)


@pytest.mark.parametrize(
    ("text", "column", "got"),
    [
        (GOOD + "ab,b,a,5,10\n", "edge", "'ab'"),
        (GOOD + ",b,a,5,10\n", "edge", "''"),
        (GOOD + "bc,b,b,5,10\n", "source, target", "'b' and 'b'"),
        (GOOD + "bc,b,,5,10\n", "source, target", "'b' and ''"),
        (GOOD + "bc,b,c,-5,10\n", "length_m", "-5"),
        (GOOD + "bc,b,c,far,10\n", "length_m", "nan"),
        (GOOD + "bc,b,c,5,0\n", "speed_mps", "0"),
        (GOOD + "bc,b,c\n", "length_m", "nan"),
        (HEAD, "network", "none"),
        ("edge,source\nab,a\n", "streets.csv", "none named target, length_m, speed_mps"),
        ("", "streets.csv", "none named edge, source, target, length_m, speed_mps"),
        ("\x00\xff\x01", "streets.csv", "none named edge, source, target, length_m, speed_mps"),
    ],
)
def test_a_bad_network_is_refused_with_its_place(tmp_path: Path, text: str, column: str, got: str) -> None:
    network, findings = read_network(written(tmp_path, text))
    assert network is None
    assert (column, got) in {(finding.column, finding.got) for finding in findings}


def test_a_missing_file_is_a_finding(tmp_path: Path) -> None:
    assert read_network(tmp_path / "none.csv")[1][0].got == "no such file"


def test_columns_of_different_length_are_one_finding(tmp_path: Path) -> None:
    network, _ = read_network(written(tmp_path, GOOD))
    assert network is not None
    (finding,) = check_network(network.model_copy(update={"length_m": (1.0,)}))
    assert finding.expected == "as many values in every column"
