"""The demonstration runs on the bundled digits, and tells the samplers apart."""

import sys

from benchmarks import three_samplers as benchmark


def test_the_table_tells_them_apart(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["", "--num=200", f"--out={tmp_path}"])
    benchmark.main()
    lines = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()]
    rows = {line[0].strip(): line[1:] for line in lines if len(line) == 5}
    authentic = [float(value) for value in rows["authpct_pixels"]]
    assert authentic[1] == 0.0 and min(authentic[0], authentic[2], authentic[3]) > 30
    recall = [float(value) for value in rows["recall_pixels"]]
    assert recall[2] < min(recall[0], recall[1], recall[3]) - 0.2
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"honest.png", "copying.png", "dropping.png"}
