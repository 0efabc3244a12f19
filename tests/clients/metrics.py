"""What an address tells Prometheus, as JSON: the reference parser of
OpenMetrics reads it, so that what is printed is what a server would store."""

import json
import sys
import urllib.error
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families


def get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        kind = answer.headers["Content-Type"]
        assert kind.startswith("application/openmetrics-text; version=1.0.0"), kind
        return answer.read().decode()


def samples(text):
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            yield f"{sample.name}{{{labels}}}" if labels else sample.name, sample.value


def status(url, method):
    try:
        return urllib.request.urlopen(urllib.request.Request(url, method=method)).status
    except urllib.error.HTTPError as error:
        return error.code


url = sys.argv[1]
found = dict(samples(get(url)))
found["status of another path"] = status(url + "/more", "GET")
found["status of POST"] = status(url, "POST")
print(json.dumps(found))
