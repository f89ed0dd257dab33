/** The MONAI Label server that shows this viewer. */

const MODEL = 'endoscopic_lesion_segmentation';

/** What the server says when it refuses: its own words rather than a number. */
async function reason(response) {
  const text = await response.text().catch(() => '');
  try {
    const { detail, msg } = JSON.parse(text);
    const said = detail ?? msg;
    if (said) return typeof said === 'string' ? said : JSON.stringify(said);
  } catch {
    // not JSON: the text itself
  }
  return text.slice(0, 300) || response.statusText;
}

/** Ask once for the server's token; a right one becomes a cookie, which the pictures' requests then carry too. */
async function logIn() {
  const password = window.prompt('Token of this server');
  if (!password) return false;
  const form = new URLSearchParams({ username: 'annotator', password });
  const response = await fetch('/auth/token', { method: 'POST', body: form, credentials: 'same-origin' });
  if (!response.ok) throw new Error(`the server refused the token: ${await reason(response)}`);
  return true;
}

async function request(path, options) {
  const ask = () => fetch(path, { credentials: 'same-origin', ...options });
  let response = await ask();
  if (response.status === 401 && (await logIn())) response = await ask();
  if (!response.ok) throw new Error(`the server answered ${response.status}: ${await reason(response)}`);
  return response;
}

/** True where the server wants a token and this browser has none yet. */
export async function needsLogIn() {
  const response = await fetch('/weights/', { credentials: 'same-origin' }).catch(() => null);
  return response?.status === 401;
}

/**
 * Have a series segmented.
 *
 * @param {string} series Series Instance UID
 * @returns {Promise<ArrayBuffer>} a .nrrd label volume
 */
export async function infer(series) {
  const body = new FormData();
  body.append('params', JSON.stringify({ result_extension: '.nrrd', result_dtype: 'uint8' }));
  const response = await request(`/infer/${MODEL}?image=${encodeURIComponent(series)}&output=image`, {
    method: 'POST',
    body,
  });
  return response.arrayBuffer();
}

/**
 * Store a label volume as a series' final label.
 *
 * @param {string} series Series Instance UID
 * @param {Blob} label a .nrrd label volume
 */
export async function saveLabel(series, label) {
  const body = new FormData();
  body.append('params', JSON.stringify({ label_info: [{ name: 'lesion', model_name: MODEL }] }));
  body.append('label', label, 'label.nrrd');
  await request(`/datastore/label?image=${encodeURIComponent(series)}&tag=final`, { method: 'PUT', body });
}
