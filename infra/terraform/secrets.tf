# The key for Prefect's API. Its value is added by hand, and neither the state nor the repository ever has it.
resource "google_secret_manager_secret" "prefect" {
  secret_id           = "${local.name}-prefect"
  deletion_protection = var.deletion_protection

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }

  depends_on = [google_project_service.api]
}

# All that run ask Prefect: what to do, and for the blocks of their workspace.
resource "google_secret_manager_secret_iam_member" "prefect" {
  for_each = merge(
    {
      ingest     = google_service_account.ingest.member
      batch      = google_service_account.batch.member
      dispatcher = google_service_account.dispatcher.member
    },
    local.receiving ? { receiver = google_service_account.receiver[0].member } : {},
  )

  secret_id = google_secret_manager_secret.prefect.secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = each.value
}

# The password of the registry's user, made here and put down nowhere else. Whoever saves the workspace reads it once.
resource "google_secret_manager_secret" "database" {
  secret_id           = "${local.name}-database"
  deletion_protection = var.deletion_protection

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }

  depends_on = [google_project_service.api]
}

ephemeral "random_password" "database" {
  length  = 40
  special = false # it stands in a URL
}

resource "google_secret_manager_secret_version" "database" {
  secret                 = google_secret_manager_secret.database.id
  secret_data_wo         = ephemeral.random_password.database.result
  secret_data_wo_version = var.database_password_version
}

# What the secret holds, not what was made just now: each run of Terraform makes another.
ephemeral "google_secret_manager_secret_version" "database" {
  secret = google_secret_manager_secret_version.database.secret
}
