"""Fixtures of the GPU tests."""

from model_fixtures import default_model, engine, models_folder

__all__ = ["default_model", "engine", "models_folder"]
