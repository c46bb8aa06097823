# Automated sync script (run via cron at 2 AM)
echo 'Starting nightly staging sync...'
result=$(curl -X POST "https://api.hoody.icu/api/v1/containers/{staging_container_id}/sync" -H "Authorization: Bearer $HOODY_TOKEN")
if [ "$(jq -r .statusCode <<<"$result")" = 200 ]; then
  echo 'Staging synced successfully'
  echo "Sync status: $(jq -r .data.status <<<"$result")"
else
  echo "Sync failed: $(jq -r .message <<<"$result")" >&2
  exit 1
fi
