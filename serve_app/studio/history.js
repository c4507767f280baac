// The tracks that this browser asked for last: ids and titles, nothing else, newest first.

const KEY = "orchestrion.tracks";
export const LIMIT = 20;
const TITLE_LENGTH = 120;
const TRACK_ID = /^trk_[a-z2-7]{32}$/;

// Whatever else may stand there (an older page, another program, a blocked store) is as good as nothing.
export function remembered() {
  try {
    const entries = JSON.parse(localStorage.getItem(KEY)) ?? [];
    return entries.filter(({ id, title }) => TRACK_ID.test(id) && typeof title === "string").slice(0, LIMIT);
  } catch {
    return [];
  }
}

export function remember(id, title) {
  store([{ id, title: title.slice(0, TITLE_LENGTH) }, ...remembered().filter((entry) => entry.id !== id)].slice(0, LIMIT));
}

export function forget(id) { store(remembered().filter((entry) => entry.id !== id)); }

export function forgetAll() { store([]); }

function store(entries) {
  try {
    if (entries.length) localStorage.setItem(KEY, JSON.stringify(entries));
    else localStorage.removeItem(KEY);
  } catch { /* without a store, the list lasts as long as the page */ }
}
