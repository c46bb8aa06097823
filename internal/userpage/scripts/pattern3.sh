# 1. Snapshot tested container
curl -X POST "https://api.hoody.icu/api/v1/containers/{test_id}/snapshots" \
  -H "Authorization: Bearer $HOODY_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{"alias": "ready-for-prod"}'

# 2. Copy to production from that snapshot
curl -X POST "https://api.hoody.icu/api/v1/containers/{test_id}/copy" \
  -H "Authorization: Bearer $HOODY_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "target_project_id": "{prod_project}",
    "name": "prod-v2",
    "source_snapshot": "{snapshot}"
  }'
