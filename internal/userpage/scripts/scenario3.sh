# Copy production to EU for redundancy
curl -X POST "https://api.hoody.icu/api/v1/containers/{prod_us_id}/copy" \
  -H "Authorization: Bearer $HOODY_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "target_project_id": "{same_project}",
    "target_server_id": "{eu_server_id}",
    "name": "prod-eu-replica"
  }'

# Monthly: Sync EU replica with US changes
curl -X POST "https://api.hoody.icu/api/v1/containers/{prod_eu_id}/sync" \
  -H "Authorization: Bearer $HOODY_TOKEN"
