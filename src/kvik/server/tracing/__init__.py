"""Spans of requests for an OpenTelemetry collector. Without --otlp-traces-endpoint OpenTelemetry is not imported."""
