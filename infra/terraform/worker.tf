# Two of Prefect's workers, always on. "control" does runs of the pool lookbook itself: ingest, verify and watch, and what
# events start. "dispatcher" does none: for each run of the pool lookbook-cloud-run it starts a job, under the account
# that the deployment names.
locals {
  workers = {
    control = {
      account = google_service_account.ingest.email
      flags   = ["--pool", "lookbook", "--type", "process", "--limit", "8"]
      limits  = { cpu = "2", memory = "8Gi" }
      subnets = [google_compute_subnetwork.runs.name] # the registry is reached from there
      buckets = local.source_buckets                  # read as folders: /sources/BUCKET
    }
    dispatcher = {
      account = google_service_account.dispatcher.email
      flags   = ["--pool", "lookbook-cloud-run", "--type", "cloud-run-v2"]
      limits  = { cpu = "1", memory = "1Gi" }
      subnets = []
      buckets = []
    }
  }
}

resource "google_cloud_run_v2_worker_pool" "worker" {
  for_each = local.running ? toset(keys(local.workers)) : []

  name                = "${local.name}-${each.key}"
  location            = var.region
  deletion_protection = false

  scaling {
    scaling_mode          = "MANUAL"
    manual_instance_count = var.worker_instances
  }

  template {
    service_account = local.workers[each.key].account

    containers {
      image   = var.image
      command = ["prefect"]
      args    = concat(["worker", "start", "--with-healthcheck"], local.workers[each.key].flags)

      resources {
        limits = local.workers[each.key].limits
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

      dynamic "volume_mounts" {
        for_each = local.workers[each.key].buckets

        content {
          name       = replace(volume_mounts.value, "/[._]/", "-")
          mount_path = "/sources/${volume_mounts.value}"
        }
      }
    }

    dynamic "volumes" {
      for_each = local.workers[each.key].buckets

      content {
        name = replace(volumes.value, "/[._]/", "-")
        gcs {
          bucket    = volumes.value
          read_only = true
        }
      }
    }

    dynamic "vpc_access" {
      for_each = local.workers[each.key].subnets

      content {
        egress = "PRIVATE_RANGES_ONLY"
        network_interfaces {
          network    = google_compute_network.network.name
          subnetwork = vpc_access.value
        }
      }
    }
  }

  depends_on = [
    google_artifact_registry_repository_iam_member.pull,
    google_project_iam_member.dispatcher_runs,
    google_secret_manager_secret_iam_member.prefect,
    google_service_account_iam_member.dispatcher_acts,
    google_storage_bucket_iam_member.source,
  ]
}
