// Shows the entries that hold every word of the search field; without it the page is a plain list.
const field = document.getElementById("search");
const entries = [...document.querySelectorAll(".entry")].map((entry) => [entry, entry.textContent.toLowerCase()]);
const groups = [...document.querySelectorAll(".group")];
const found = document.getElementById("found");
function search() {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const [entry, text] of entries) {
    entry.hidden = !words.every((word) => text.includes(word));
    shown += !entry.hidden;
  }
  for (const group of groups) group.hidden = !group.querySelector(".entry:not([hidden])");
  found.textContent = words.length ? `${shown} of ${entries.length}` : "";
}
field.addEventListener("input", search);
field.closest("[hidden]").hidden = false;
search();
