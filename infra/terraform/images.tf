resource "google_artifact_registry_repository" "images" {
  # checkov:skip=CKV_GCP_84:Google's own keys encrypt it; the image holds no secret.
  repository_id = local.name
  location      = var.region
  format        = "DOCKER"
  description   = "The image of Lookbook's flows, worker and receiver."

  docker_config {
    immutable_tags = true
  }

  cleanup_policies {
    id     = "keep the last ten"
    action = "KEEP"
    most_recent_versions {
      keep_count = 10
    }
  }

  cleanup_policies {
    id     = "remove the older"
    action = "DELETE"
    condition {
      older_than = "7776000s" # 90 days
    }
  }

  depends_on = [google_project_service.api]
}

# The images of runs are pulled by the account of Cloud Run itself, within the project; but since 2025 it refuses a job
# whose maker may not read the image (https://cloud.google.com/artifact-registry/docs/integrate-cloud-run).
resource "google_artifact_registry_repository_iam_member" "pull" {
  repository = google_artifact_registry_repository.images.name
  location   = var.region
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.dispatcher.member
}

# Only the workflow of GitHub pushes.
resource "google_artifact_registry_repository_iam_member" "push" {
  count = var.github_repository == null ? 0 : 1

  repository = google_artifact_registry_repository.images.name
  location   = var.region
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.publisher[0].member
}
