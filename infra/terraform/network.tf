# The database has an address in this network alone; ingest reaches it from a job with an interface in the subnet.
resource "google_compute_network" "network" {
  # checkov:skip=CKV2_GCP_18:The rules that each network implies refuse all that comes in, and nothing here listens.
  name                    = local.name
  auto_create_subnetworks = false

  depends_on = [google_project_service.api]
}

resource "google_compute_subnetwork" "runs" {
  # checkov:skip=CKV_GCP_26:Flow logs cost by the byte, and all that the subnet carries is one database's connections.
  # checkov:skip=CKV_GCP_76:No address of IPv6 is given out here.
  name                     = "${local.name}-runs"
  network                  = google_compute_network.network.id
  region                   = var.region
  ip_cidr_range            = "10.20.0.0/22"
  private_ip_google_access = true
}

resource "google_compute_global_address" "services" {
  name          = "${local.name}-services"
  network       = google_compute_network.network.id
  purpose       = "VPC_PEERING"
  address_type  = "INTERNAL"
  prefix_length = 20
}

resource "google_service_networking_connection" "services" {
  network                 = google_compute_network.network.id
  service                 = "servicenetworking.googleapis.com"
  reserved_peering_ranges = [google_compute_global_address.services.name]
}
