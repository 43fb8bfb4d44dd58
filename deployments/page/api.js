// Requests to the API: the key, errors, images and files that need the key.

const ROOT = "/api/v1";
const STORED = "lookbook-key";

export const key = {
  get: () => sessionStorage.getItem(STORED) ?? "",
  set: (text) => (text ? sessionStorage.setItem(STORED, text) : sessionStorage.removeItem(STORED)),
};

/** An error that the API told (RFC 9457), or that nothing answered. */
export class ProblemError extends Error {
  constructor(told) {
    super(told.detail || told.title);
    this.told = told;
  }
}

function headers(more = {}) {
  return key.get() ? { ...more, Authorization: `Bearer ${key.get()}` } : more;
}

async function answered(address, options) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ProblemError({ title: "No answer", detail: "The API does not answer.", way_out: "See that it runs, then try again." });
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({ title: `${answer.status} ${answer.statusText}` }));
  throw new ProblemError({ ...told, status: answer.status });
}

/** The address of something below the API's root. */
export function address(parts, query = {}) {
  const text = new URLSearchParams(query).toString();
  return `${ROOT}/${parts.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** Ask for JSON. */
export async function ask(where, { method = "GET", body, more = {}, signal } = {}) {
  const sent = body === undefined ? more : { ...more, "Content-Type": "application/json" };
  const answer = await answered(where, {
    method,
    headers: headers(sent),
    body: body === undefined ? undefined : JSON.stringify(body),
    signal,
    cache: "no-store",
  });
  return answer.json();
}

/** A token of our own for one request; randomUUID needs HTTPS. */
export function fresh() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const FINAL = new Set(["completed", "failed", "cancelled"]);

/** Ask for a run until it has ended; `tell` is called with each answer. */
export async function watch(where, tell, signal) {
  for (let pause = 400; !signal.aborted; pause = Math.min(pause * 1.3, 4000)) {
    await new Promise((done) => setTimeout(done, pause));
    try {
      const now = await ask(where, { signal });
      tell(now);
      if (FINAL.has(now.state)) return;
    } catch (problem) {
      if (signal.aborted) return;
      dispatchEvent(new CustomEvent("problem", { detail: problem })); // it goes on asking
    }
  }
}

/** Show an image: a browser sends no key by itself, so with one it is fetched once it comes into view. */
export function show(image, where) {
  if (!key.get()) {
    image.src = where;
    return image;
  }
  image.dataset.where = where;
  seen.observe(image);
  return image;
}

const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    fetched(target).catch(() => target.classList.add("lost"));
  }
}, { rootMargin: "300px" });

async function fetched(image) {
  const answer = await answered(image.dataset.where, { headers: headers() });
  const blob = URL.createObjectURL(await answer.blob());
  image.addEventListener("load", () => URL.revokeObjectURL(blob), { once: true });
  image.src = blob;
}

/** Save a file that needs the key; it is held in memory meanwhile. */
export async function save(where, name) {
  const answer = await answered(where, { headers: headers() });
  const blob = URL.createObjectURL(await answer.blob());
  const link = document.createElement("a");
  link.href = blob;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(blob), 60_000);
}
