"""The benchmark of the feature extractors runs, and counts every image."""

import sys

import pytest

from benchmarks import feature_pass as benchmark


@pytest.mark.slow
def test_the_table_has_a_row_for_each_network(monkeypatch, capsys):
    flags = ["--networks=lenet512,resnet18", "--images=2", "--rounds=1"]
    monkeypatch.setattr(sys, "argv", ["", *flags])
    benchmark.main()
    lines = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()]
    rows = {line[0].strip(): line[1:] for line in lines if len(line) == 3}
    for name in ("lenet512", "resnet18"):
        speed, count = rows[name]
        assert float(speed.split()[0].replace(",", "")) > 0 and int(count) == 32
