"""Spans of requests for an OpenTelemetry collector. Without --otlp-traces-endpoint nothing here is imported."""
