# Weekly: Copy production to staging
curl -X POST "https://api.hoody.icu/api/v1/containers/{prod_id}/copy" \
  -H "Authorization: Bearer $HOODY_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{"target_project_id": "{staging_project}", "name": "staging-app"}'

# Daily: Sync staging with production changes
curl -X POST "https://api.hoody.icu/api/v1/containers/{staging_id}/sync" \
  -H "Authorization: Bearer $HOODY_TOKEN"

# Developers: Copy staging to personal env
curl -X POST "https://api.hoody.icu/api/v1/containers/{staging_id}/copy" \
  -H "Authorization: Bearer $HOODY_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{"target_project_id": "{dev_project}", "name": "alice-dev"}'

# As needed: Sync dev envs with staging
curl -X POST "https://api.hoody.icu/api/v1/containers/{alice_dev_id}/sync" \
  -H "Authorization: Bearer $HOODY_TOKEN"
