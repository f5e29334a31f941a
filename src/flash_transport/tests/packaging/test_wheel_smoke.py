"""The test of installed wheels holds for this checkout, too."""

import wheel_smoke


def test_the_smoke_test_of_a_wheel_passes_here(capsys):
    wheel_smoke.main()
    assert "ok" in capsys.readouterr().out
