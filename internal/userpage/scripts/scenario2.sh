# New team member Alice joins - copy template
curl -X POST "https://api.hoody.icu/api/v1/containers/{template_id}/copy" \
  -H "Authorization: Bearer $HOODY_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{"target_project_id": "{alice_project}", "name": "alice-dev-env"}'

# Template gets updated - sync Alice's environment
curl -X POST "https://api.hoody.icu/api/v1/containers/{alice_copy_id}/sync" \
  -H "Authorization: Bearer $HOODY_TOKEN"

# Another developer Bob joins
curl -X POST "https://api.hoody.icu/api/v1/containers/{template_id}/copy" \
  -H "Authorization: Bearer $HOODY_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{"target_project_id": "{bob_project}", "name": "bob-dev-env"}'
