"""A client of the HTTP service: ask for tracks, hear them while they are made, download and verify them."""

from orchestrion.client.answers import ServedModel, TrackSummary, Upload, Vocabulary
from orchestrion.client.client import Client, TrackStream
from orchestrion.client.problems import Unreachable

__all__ = ["Client", "ServedModel", "TrackStream", "TrackSummary", "Unreachable", "Upload", "Vocabulary"]
