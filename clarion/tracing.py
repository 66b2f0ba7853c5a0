"""Traces, if the environment asks for them: OpenTelemetry over OTLP, by its own OTEL_* variables.

Off when no endpoint is named, and then nothing of it is imported. Spans are those of Temporal's interceptor
(start, workflow, activity) and one for each attempt at a batch; none for a delivery.
"""

from __future__ import annotations

import os
from typing import Final

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def wanted() -> bool:
    """Whether the environment names a place for traces, and does not turn them off."""
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    none = os.environ.get("OTEL_TRACES_EXPORTER", "").lower() == "none"
    return not off and not none and any(os.environ.get(name) for name in ENDPOINTS)


def configure(service: str, instance: str = "") -> bool:
    """Send this process's spans where the environment says. Whether it says so.

    `service` is their service.name unless OTEL_SERVICE_NAME gives another.
    """
    if not wanted():
        return False
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    names = {"service.name": os.environ.get("OTEL_SERVICE_NAME") or service}
    if instance:
        names["service.instance.id"] = instance
    provider = TracerProvider(resource=Resource.create(names))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return True
