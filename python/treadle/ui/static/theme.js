// Light, dark, or as the system says.
import { signal } from "./dom.js";

const KEY = "treadle.theme";
const CHOICES = ["auto", "light", "dark"];
const dark = matchMedia("(prefers-color-scheme: dark)");

export const choice = signal(CHOICES.includes(localStorage.getItem(KEY)) ? localStorage.getItem(KEY) : "auto");
// What is shown: "light" or "dark".
export const theme = signal("light");

function shown() {
  document.documentElement.dataset.theme = choice.value;
  theme.value = choice.value === "auto" ? (dark.matches ? "dark" : "light") : choice.value;
}

dark.addEventListener("change", shown);
choice.subscribe(shown);

export function nextTheme() {
  choice.value = CHOICES[(CHOICES.indexOf(choice.value) + 1) % CHOICES.length];
  localStorage.setItem(KEY, choice.value);
}
