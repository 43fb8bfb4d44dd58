locals {
  environment = terraform.workspace
  name        = "lookbook-${local.environment}"
  labels      = { app = "lookbook", environment = local.environment }

  # What is made only once there is an image to run, and a Prefect to ask.
  running   = var.image != null && var.prefect_api_url != null
  receiving = local.running && length(var.watched) > 0

  apis = toset([
    "artifactregistry.googleapis.com",
    "bigquery.googleapis.com",
    "compute.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com",
    "pubsub.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "servicenetworking.googleapis.com",
    "sqladmin.googleapis.com",
    "storage.googleapis.com",
    "sts.googleapis.com",
  ])
}

resource "google_project_service" "api" {
  for_each = local.apis

  service            = each.value
  disable_on_destroy = false

  lifecycle {
    precondition {
      condition     = terraform.workspace != "default"
      error_message = "An environment is a workspace of Terraform: terraform workspace new staging."
    }
    precondition {
      condition     = length(terraform.workspace) <= 10
      error_message = "The name of an environment has at most 10 characters: those of its accounts have 30."
    }
  }
}
