"""pi0, pi0-FAST and pi0.5 as plain functions over checkpoint trees."""
