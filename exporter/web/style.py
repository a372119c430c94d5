"""The one style sheet, inlined into every page and allowed there by its hash."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

CSS: Final = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1b1f24;--soft:#57606a;--line:#d5dae0;
--head:#eef1f4;
--link:#0b5cad;--ok:#116329;--ok-bg:#dcf5e3;--near:#7a4500;--near-bg:#fff0cf;--bad:#a40e26;--bad-bg:#ffe1e3;
--info:#0a4a8c;--info-bg:#ddeeff;--quiet-bg:#e9ecf0}
@media(prefers-color-scheme:dark){:root{--bg:#0f1318;--card:#171c23;--ink:#e4e8ee;--soft:#9da8b5;
--line:#303842;
--head:#1e252d;--link:#7cb8ff;--ok:#73d993;--ok-bg:#12321d;--near:#f5c15c;--near-bg:#3a2a08;--bad:#ff9aa2;
--bad-bg:#48141b;--info:#94c6ff;--info-bg:#12304f;--quiet-bg:#262d36}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Noto Sans",sans-serif;overflow-wrap:anywhere}
a{color:var(--link);text-underline-offset:.15em}
a:focus-visible,button:focus-visible,input:focus-visible,select:focus-visible,.scroll:focus-visible{
outline:3px solid var(--link);outline-offset:2px;border-radius:4px}
.skip{position:absolute;left:-999px}
.skip:focus{left:1rem;top:.5rem;background:var(--card);padding:.25rem .75rem;z-index:1}
header,main,footer{max-width:84rem;margin:0 auto;padding:0 1.25rem}
header{display:flex;flex-wrap:wrap;align-items:center;gap:.25rem 1.5rem;padding-top:1rem;
padding-bottom:1rem}
header strong{font-size:1.05rem;letter-spacing:-.01em}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;list-style:none;margin:0;padding:0}
nav a{display:inline-block;padding:.25rem 0}
nav a[aria-current]{color:var(--ink);font-weight:600;text-decoration:none;
border-bottom:2px solid var(--link)}
main{padding-bottom:1rem}
footer{color:var(--soft);font-size:.875rem;padding-top:.5rem;padding-bottom:2rem}
h1{font-size:1.6rem;line-height:1.25;letter-spacing:-.02em;margin:.5rem 0 .75rem}
h2{font-size:1.15rem;line-height:1.35;margin:0}
h3{font-size:1rem;margin:1.25rem 0 .5rem}
p{margin:.5rem 0}
.soft,.unit{color:var(--soft)}
.small{font-size:.875rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:1rem 1.25rem;
margin:0 0 1.25rem}
.title{display:flex;flex-wrap:wrap;align-items:center;gap:.4rem .75rem}
.badge{display:inline-block;border-radius:999px;padding:.05rem .6rem;font-size:.8125rem;font-weight:600;
white-space:nowrap;background:var(--quiet-bg);color:var(--ink)}
.ok{background:var(--ok-bg);color:var(--ok)}
.near{background:var(--near-bg);color:var(--near)}
.bad{background:var(--bad-bg);color:var(--bad)}
.info{background:var(--info-bg);color:var(--info)}
.note{border-left:4px solid var(--bad);background:var(--bad-bg);color:var(--bad);border-radius:4px;
padding:.5rem .75rem;margin:.75rem 0}
.note.mild{border-color:var(--near);background:var(--near-bg);color:var(--near)}
dl.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.75rem 1.25rem;
margin:1rem 0}
dl.facts dt{color:var(--soft);font-size:.8125rem}
dl.facts dd{margin:0;font-weight:600;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:8px;background:var(--card)}
table{border-collapse:collapse;width:100%;font-size:.9375rem;overflow-wrap:break-word}
.broad{font-size:.875rem}
.broad th,.broad td{padding:.45rem .6rem}
.broad .badge{font-size:.75rem}
.broad .value{display:block}
caption{text-align:left;padding:.6rem .75rem;color:var(--soft);font-size:.875rem}
th,td{padding:.5rem .75rem;text-align:left;vertical-align:top;border-top:1px solid var(--line)}
thead th{background:var(--head);border-top:0;font-size:.8125rem;font-weight:600;white-space:nowrap;
vertical-align:bottom}
caption+thead th{border-top:1px solid var(--line)}
tbody th{font-weight:600}
.num{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.num .small{white-space:normal}
td .badge{margin-top:.1rem}
.sort{color:inherit;text-decoration:none;display:inline-block}
.sort:hover{text-decoration:underline}
.arrow{display:inline-block;width:1em;text-align:center;color:var(--link)}
.name{overflow-wrap:anywhere;min-width:8.5rem}
.broad .name{min-width:12rem;max-width:24rem}
.wide{min-width:14rem}
time,.fixed{white-space:nowrap}
.name .soft{font-weight:400;font-size:.8125rem}
form.filter{display:flex;flex-wrap:wrap;gap:.75rem;align-items:end;margin:0 0 1rem}
form.filter label{display:block;font-size:.8125rem;color:var(--soft)}
form.filter .grow{flex:1 1 14rem}
input,select,button{font:inherit;color:var(--ink);background:var(--card);border:1px solid var(--soft);
border-radius:6px;padding:.4rem .6rem;min-height:2.5rem;max-width:100%}
.grow input{width:100%}
button{background:var(--link);border-color:var(--link);color:var(--card);font-weight:600;
padding:.4rem 1.1rem;cursor:pointer}
.pages{display:flex;flex-wrap:wrap;gap:.5rem 1.25rem;align-items:center;margin:1rem 0}
.crumbs{margin:.25rem 0 0;font-size:.875rem}
details{margin:1rem 0}
summary{cursor:pointer;color:var(--link)}
.narrow{display:none}
.hide{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
@media(max-width:52rem){
header,main,footer{padding-left:.875rem;padding-right:.875rem}
h1{font-size:1.35rem}
.card{padding:.875rem}
.narrow{display:block}
form.filter>*{flex:1 1 9rem}
form.filter select,form.filter button{width:100%}
.scroll:has(.cards){border:0;background:none;overflow:visible}
.cards,.cards tbody,.cards tr,.cards td,.cards tbody th,.cards caption{display:block;width:auto}
.cards thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.cards caption{padding:.25rem 0 .6rem}
.cards tr{display:grid;grid-template-columns:1fr 1fr;gap:.35rem 1rem;background:var(--card);
border:1px solid var(--line);border-radius:10px;padding:.7rem .875rem;margin:0 0 .75rem}
.card .cards tr{background:var(--bg)}
.cards.cards td,.cards.cards tbody th{border:0;padding:0;text-align:left;white-space:normal;min-width:0}
.cards tbody th,.cards td.wide{grid-column:1/-1}
.cards td::before{content:attr(data-label);display:block;color:var(--soft);font-size:.75rem;line-height:1.3}
.broad .value{display:inline}
dl.facts{grid-template-columns:1fr 1fr}
.cards .name{max-width:none;min-width:0}
}
@media print{.filter,.pages,nav{display:none}body{background:#fff}}
""".replace("\n", "")

CSS_HASH: Final = "sha256-" + base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        f"style-src '{CSS_HASH}'",
        "img-src data:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ),
)
"""Content-Security-Policy of every answer: no script, no request to anywhere, one style sheet."""
