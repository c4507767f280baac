// What the service refuses, told at the field that it is about.

const $ = (id) => document.getElementById(id);

export class Refused extends Error {
  constructor(problem, retryAfter) { super(problem.detail || problem.title || "the request was refused"); this.problem = problem; this.retryAfter = retryAfter; }
}

export async function checked(response) {
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({ title: `The server answered ${response.status}`, detail: "it gave no reason" }));
  throw new Refused(problem, response.headers.get("Retry-After"));
}

export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

// Tells what is wrong at the fields: the places that now say so, and in `lines` what has no place.
export function markFields(error) {
  const lines = [], places = new Set(), labels = new Set();
  for (const { field, value, message } of error.problem?.problems ?? []) {
    const [name, ...within] = field.split("."); // "exclude.1" is the second name of the field.
    const place = $(`${name}-error`);
    if (!place) { lines.push(sentence(`${field}: ${message}`)); continue; }
    const text = sentence(within.length ? `${value} ${message}` : message);
    place.textContent = places.has(place) ? `${place.textContent} ${text}` : text;
    places.add(place);
    const input = document.querySelector(`[aria-describedby~="${CSS.escape(place.id)}"]`);
    input.setAttribute("aria-invalid", "true");
    labels.add(input.labels[0].firstChild.textContent.trim());
    place.closest("details")?.setAttribute("open", "");
  }
  if (labels.size) lines.unshift(sentence(`Please look at: ${[...labels].join(", ")}`));
  if (error instanceof Refused) {
    const { title, problems } = error.problem;
    if (!problems?.length) lines.push(sentence(`${title ?? "Refused"}: ${error.message}`));
    if (error.retryAfter) lines.push(`Try again in ${error.retryAfter} s.`);
  }
  return { lines, places };
}

export function unmark(place) {
  place.textContent = "";
  document.querySelector(`[aria-describedby~="${CSS.escape(place.id)}"]`).removeAttribute("aria-invalid");
}
