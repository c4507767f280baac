"""The flow: the one place that brings models, audio, trust and storage together."""
