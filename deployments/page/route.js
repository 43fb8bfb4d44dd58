// Addresses: all that the page shows stands behind the #, so that back, reload and links work.

/** What is asked for: the parts of the path, and the query. */
export function read() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const parts = path.split("/").filter(Boolean).map(decoded);
  return { parts, query: new URLSearchParams(query) };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The address of something: parts of a path, and a query (an object or URLSearchParams). */
export function to(parts, query = {}) {
  const text = new URLSearchParams(query).toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** Change one thing of the query; an empty value takes it away. */
export function put(what, value, quiet = false) {
  const { query } = read();
  value ? query.set(what, value) : query.delete(what);
  change(query, quiet);
}

/** Stay here with another query; `quiet` leaves no entry in the history, as while somebody types. */
export function change(query, quiet = false) {
  const address = to(read().parts, query);
  if (address === location.hash) return;
  if (quiet) {
    history.replaceState(null, "", address);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else location.hash = address;
}
