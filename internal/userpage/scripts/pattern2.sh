# Primary in US
# container: prod-us

# Copy to EU
POST /api/v1/containers/{prod_us_id}/copy
{
  "target_project_id": "{project}",
  "target_server_id": "{eu_server}",
  "name": "prod-eu"
}

# Copy to Asia
POST /api/v1/containers/{prod_us_id}/copy
{
  "target_project_id": "{project}",
  "target_server_id": "{asia_server}",
  "name": "prod-asia"
}

# After US deployment, sync all regions
POST /api/v1/containers/{prod_eu_id}/sync

POST /api/v1/containers/{prod_asia_id}/sync
