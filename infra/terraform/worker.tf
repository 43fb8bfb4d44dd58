# Prefect's worker: asks for runs of the pool lookbook-cloud-run, and starts a job for each. It does none of them itself.
resource "google_cloud_run_v2_worker_pool" "dispatcher" {
  count = local.running ? 1 : 0

  name                = "${local.name}-dispatcher"
  location            = var.region
  deletion_protection = false

  scaling {
    scaling_mode          = "MANUAL"
    manual_instance_count = 1
  }

  template {
    service_account = google_service_account.dispatcher.email

    containers {
      image   = var.image
      command = ["prefect"]
      args    = ["worker", "start", "--pool", "lookbook-cloud-run", "--type", "cloud-run-v2", "--with-healthcheck"]

      resources {
        limits = { cpu = "1", memory = "1Gi" }
      }

      env {
        name  = "PREFECT_API_URL"
        value = var.prefect_api_url
      }
      env {
        name = var.prefect_auth
        value_source {
          secret_key_ref {
            secret  = google_secret_manager_secret.prefect.secret_id
            version = "latest"
          }
        }
      }

      startup_probe {
        period_seconds    = 10
        failure_threshold = 24
        http_get {
          path = "/health"
          port = 8080
        }
      }
      liveness_probe {
        period_seconds    = 30
        failure_threshold = 4
        http_get {
          path = "/health"
          port = 8080
        }
      }
    }
  }

  depends_on = [
    google_project_iam_member.dispatcher_runs,
    google_secret_manager_secret_iam_member.prefect,
    google_service_account_iam_member.dispatcher_acts,
  ]
}
