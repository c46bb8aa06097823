# Day 1: Create staging from production
curl -X POST "https://api.hoody.icu/api/v1/containers/{prod_id}/copy" \
  -H "Authorization: Bearer $HOODY_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{"target_project_id": "{staging_project}", "name": "staging-api"}'

# Week 1: Sync staging to get production fixes
curl -X POST "https://api.hoody.icu/api/v1/containers/{staging_copy_id}/sync" \
  -H "Authorization: Bearer $HOODY_TOKEN"

# Week 2: Sync again (incremental, fast)
curl -X POST "https://api.hoody.icu/api/v1/containers/{staging_copy_id}/sync" \
  -H "Authorization: Bearer $HOODY_TOKEN"
