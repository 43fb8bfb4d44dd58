# Copy it to ENVIRONMENT.tfvars, which git ignores. It holds no secret.
project = "my-project"
region  = "europe-west3"

# With a Prefect server of your own, from the first apply on:
# prefect_auth = "PREFECT_API_AUTH_STRING"
#
# From the second apply on:
# image           = "europe-west3-docker.pkg.dev/my-project/lookbook-staging/lookbook:0.1.0"
# prefect_api_url = "https://api.prefect.cloud/api/accounts/…/workspaces/…"
#
# watched = [{ bucket = "my-photos", prefix = "spring/", dataset = "spring", workspace = "staging" }]
