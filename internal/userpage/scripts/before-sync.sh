# 1. Snapshot copy's current state
curl -X POST "https://api.hoody.icu/api/v1/containers/{copy_id}/snapshots" \
  -H "Authorization: Bearer $HOODY_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{"alias": "before-sync"}'

# 2. Perform sync
curl -X POST "https://api.hoody.icu/api/v1/containers/{copy_id}/sync" \
  -H "Authorization: Bearer $HOODY_TOKEN"

# 3. If sync breaks something, restore
curl -X PATCH "https://api.hoody.icu/api/v1/containers/{copy_id}/snapshots/before-sync" \
  -H "Authorization: Bearer $HOODY_TOKEN"
