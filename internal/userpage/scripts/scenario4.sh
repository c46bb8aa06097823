# Copy production to test new feature
curl -X POST "https://api.hoody.icu/api/v1/containers/{prod_id}/copy" \
  -H "Authorization: Bearer $HOODY_TOKEN" \
  -d '{
    "target_project_id": "{same_project}",
    "name": "feature-auth-v2"
  }'

# Work on feature in the copy
# (Terminal, display, files all available)

# Feature complete? Snapshot it
POST /api/v1/containers/{feature_copy_id}/snapshots
{"alias": "feature-auth-v2-complete"}

# Copy this feature container to production
POST /api/v1/containers/{feature_copy_id}/copy
{
  "target_project_id": "{production_project}",
  "name": "prod-with-auth-v2"
}
