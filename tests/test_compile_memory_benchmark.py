"""The benchmark compiles a step without running it, and says what the step needs."""

import json

import pytest

from benchmarks import compile_memory as benchmark


@pytest.mark.slow
def test_a_row_is_of_the_whole_state():
    row = benchmark.measure("tiny", scan=True, remat=True, batch=2, dtype="bfloat16")
    # weights, their average, Adam's two moments; 3 counters of 4 bytes
    assert row["state_bytes"] == 4 * 4 * row["parameters"] + 3 * 4
    assert row["compile_s"] > 0 and row["trace_s"] > 0 and row["work_bytes"] > 0


@pytest.mark.slow
def test_the_table_has_every_form(tmp_path, capsys):
    out = tmp_path / "rows.json"
    benchmark.main(["--sizes=tiny", "--batch=4", f"--out={out}"])
    rows = json.loads(out.read_text())["rows"]
    assert [(r["scan"], r["remat"]) for r in rows] == [
        (False, False),
        (False, True),
        (True, False),
        (True, True),
    ]
    assert len({row["parameters"] for row in rows}) == 1
    kept, again, loop, loop_again = (row["work_bytes"] for row in rows)
    assert again < 0.7 * kept and loop_again < 0.7 * loop
    assert capsys.readouterr().out.count("| tiny |") == 4


def test_an_unknown_size_is_named(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["--sizes=B,XXL"])
    assert "no size XXL; there are B, L, XL" in capsys.readouterr().err
