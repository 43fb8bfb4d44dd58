resource "google_sql_database_instance" "registry" {
  # checkov:skip=CKV_GCP_6:All connections are encrypted and come by the private network; a certificate for each client would be one more secret to hand around.
  # checkov:skip=CKV_GCP_55:Log levels are PostgreSQL's defaults: statements hold object names and no secret.
  # checkov:skip=CKV_GCP_109:As above.
  # checkov:skip=CKV_GCP_110:pgaudit is for databases that people use; this one has a single user.
  # checkov:skip=CKV_GCP_111:Statements are not logged: COPY of a million rows would be.
  # checkov:skip=CKV2_GCP_13:As above: durations of all statements.
  name                = local.name
  region              = var.region
  database_version    = "POSTGRES_18"
  deletion_protection = var.deletion_protection

  settings {
    edition                     = "ENTERPRISE"
    tier                        = var.database_tier
    availability_type           = var.database_available ? "REGIONAL" : "ZONAL"
    disk_size                   = 10
    disk_autoresize             = true
    deletion_protection_enabled = var.deletion_protection
    user_labels                 = local.labels

    ip_configuration {
      ipv4_enabled    = false
      private_network = google_compute_network.network.id
      ssl_mode        = "ENCRYPTED_ONLY"
    }

    backup_configuration {
      enabled                        = true
      point_in_time_recovery_enabled = true
      start_time                     = "02:00"
    }

    maintenance_window {
      day  = 7
      hour = 4
    }

    database_flags {
      name  = "log_connections"
      value = "on"
    }
    database_flags {
      name  = "log_disconnections"
      value = "on"
    }
    database_flags {
      name  = "log_checkpoints"
      value = "on"
    }
    database_flags {
      name  = "log_lock_waits"
      value = "on"
    }
    database_flags {
      name  = "log_hostname"
      value = "on"
    }
  }

  depends_on = [google_service_networking_connection.services]
}

resource "google_sql_database" "registry" {
  name     = "registry"
  instance = google_sql_database_instance.registry.name
}

resource "google_sql_user" "registry" {
  name                = "lookbook"
  instance            = google_sql_database_instance.registry.name
  password_wo         = ephemeral.google_secret_manager_secret_version.database.secret_data
  password_wo_version = var.database_password_version
}
