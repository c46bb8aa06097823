# Sync all developer environments with template updates, all copies in parallel
for copy in {alice_copy_id} {bob_copy_id}; do
  curl -o /dev/null --fail -X POST "https://api.hoody.icu/api/v1/containers/$copy/sync" -H "Authorization: Bearer $HOODY_TOKEN" &
  syncs+=($!)
done
for sync in "${syncs[@]}"; do wait "$sync"; done
echo "Synced ${#syncs[@]} team environments"
