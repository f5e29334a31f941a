"""Checks of infra/ that `scripts/test-infra` runs, with schemas from package registries."""
