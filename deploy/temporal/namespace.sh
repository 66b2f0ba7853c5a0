#!/bin/sh
# Make the namespace and register the search attributes of clarion/names.py. Safe to repeat.
set -eu

until temporal operator cluster health; do sleep 1; done

temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" ||
    temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention 168h

# A new namespace is in every server's cache some seconds later.
until temporal operator search-attribute list --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1; do sleep 1; done

register() {
    temporal operator search-attribute create --namespace "$TEMPORAL_NAMESPACE" --name "$1" --type "$2"
}

register CampaignId Keyword
register PushId Keyword
register AppId Keyword
register Provider Keyword
register PushStatus Keyword
register CampaignKind Keyword
register Tags KeywordList
register SendAt Datetime
register ExpiresAt Datetime
register AudienceSize Int
